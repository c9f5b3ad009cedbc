//! A port of a host, reachable from the machine itself.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
};

use anyhow::{Context, Result};

use super::{Host, namespace::enter};

impl Host {
    /// Makes `port` of this host reachable on 127.0.0.1, at the same port if that is free.
    ///
    /// # Errors
    /// When no port can be had or the namespace cannot be entered.
    pub fn relay(&self, port: u16) -> Result<Relay> {
        let here = TcpListener::bind(("127.0.0.1", port))
            .or_else(|_| TcpListener::bind(("127.0.0.1", 0)))
            .context("no port of 127.0.0.1 is free")?;
        let address = here
            .local_addr()
            .context("cannot tell the port of the relay")?;
        let there = SocketAddr::from(([127, 0, 0, 1], port));
        let target = self
            .address
            .map_or(there, |address| SocketAddr::from((address, port)));
        let namespace = self.namespace.clone();
        thread::Builder::new()
            .name("relay".to_owned())
            .spawn(move || relay(&here, &namespace, target))
            .context("cannot start the relay")?;
        Ok(Relay { address })
    }
}

/// A port of a host of the LAN, reachable from the machine itself for as long as the process lives.
#[derive(Debug, Clone, Copy)]
pub struct Relay {
    /// Where to connect to.
    pub address: SocketAddr,
}

pub(super) fn relay(here: &TcpListener, namespace: &str, target: SocketAddr) {
    if enter(namespace).is_err() {
        return;
    }
    for client in here.incoming().flatten() {
        // A server that is not up yet shows as a closed connection, as it would without the relay.
        if let Ok(server) = TcpStream::connect(target) {
            let _ = join(client, server);
        }
    }
}

fn join(client: TcpStream, server: TcpStream) -> io::Result<()> {
    let (client_reader, server_writer) = (client.try_clone()?, server.try_clone()?);
    thread::Builder::new().spawn(move || pump(client_reader, server_writer))?;
    thread::Builder::new().spawn(move || pump(server, client))?;
    Ok(())
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count) = from.read(&mut buffer) {
        if count == 0 || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}

//! From what is written to what is used.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use farrier_engine::policy::ShortName;
use toml::Spanned;

use super::{
    Config, DEFAULT_ADMIN, DEFAULT_AGENT_PORT, DEFAULT_BOOT_HTTP_PORT, DEFAULT_DATA_DIR,
    DEFAULT_LEASE_SECONDS, Fault, Interface, Mode, convert_tftp, convert_tls, convert4, convert6,
    file,
};

pub(super) fn parse(text: &str) -> Result<Config, Vec<Fault>> {
    let written: file::File = toml::from_str(text).map_err(|e| vec![syntax_fault(text, &e)])?;
    let mut faults = Collector {
        text,
        faults: Vec::new(),
    };
    let config = convert(&written, &mut faults);
    if faults.faults.is_empty() {
        Ok(config)
    } else {
        Err(faults.faults)
    }
}

fn convert(written: &file::File, faults: &mut Collector<'_>) -> Config {
    let data_dir = written
        .data_dir
        .clone()
        .unwrap_or_else(|| PathBuf::from(DEFAULT_DATA_DIR));
    if data_dir.is_relative() {
        faults.add(
            "data_dir",
            None,
            "is a relative path",
            "Write it from the root: the server may start anywhere.",
        );
    }
    let boot_http_port = port(
        written.boot.http_port.as_ref(),
        "boot.http_port",
        DEFAULT_BOOT_HTTP_PORT,
        faults,
    );
    let agent_port = port(
        written.agent.port.as_ref(),
        "agent.port",
        DEFAULT_AGENT_PORT,
        faults,
    );
    if boot_http_port == agent_port {
        let at = written
            .agent
            .port
            .as_ref()
            .or(written.boot.http_port.as_ref());
        faults.add(
            "agent.port",
            at.map(Spanned::span),
            "is the same as boot.http_port",
            "Give each a port of its own.",
        );
    }
    let (classes, subnets) = convert4::lending(written, faults);
    Config {
        data_dir,
        boot_http_port,
        end_ipv6_wait: written.boot.end_ipv6_wait.unwrap_or(true),
        boot_tls: convert_tls::boot(&written.boot, (boot_http_port, agent_port), faults),
        agent_port,
        tftp: convert_tftp::tftp(&written.tftp, faults),
        admin: admin(written, faults),
        admin_names: written.admin.names.clone(),
        interfaces: interfaces(&written.interface, faults),
        classes,
        subnets,
        subnets6: convert6::subnets(&written.subnet6, faults),
    }
}

pub(super) fn port(
    written: Option<&Spanned<u16>>,
    key: &str,
    default: u16,
    faults: &mut Collector<'_>,
) -> u16 {
    let Some(written) = written else {
        return default;
    };
    if *written.get_ref() == 0 {
        faults.add(
            key,
            Some(written.span()),
            "is 0",
            "Choose a port from 1 to 65535: clients must be told it.",
        );
    }
    *written.get_ref()
}

fn admin(written: &file::File, faults: &mut Collector<'_>) -> SocketAddr {
    let default = SocketAddr::from_str(DEFAULT_ADMIN).expect("the default is an address");
    let Some(listen) = &written.admin.listen else {
        return default;
    };
    faults
        .parse(
            "admin.listen",
            listen,
            "Write address and port, such as 127.0.0.1:8443.",
        )
        .unwrap_or(default)
}

fn interfaces(written: &[file::Interface], faults: &mut Collector<'_>) -> Vec<Interface> {
    if written.is_empty() {
        faults.add(
            "interface",
            None,
            "names no interface",
            "Add [[interface]] with the name of at least one.",
        );
    }
    let mut interfaces: Vec<Interface> = Vec::new();
    for (i, one) in written.iter().enumerate() {
        let name = one.name.get_ref().clone();
        if interfaces.iter().any(|other| other.name == name) {
            let key = format!("interface[{i}].name");
            faults.add(
                &key,
                Some(one.name.span()),
                &format!("{name} is named twice"),
                "Keep one of them.",
            );
            continue;
        }
        let mode = one
            .mode
            .as_ref()
            .map_or(Mode::Proxy, |mode| parse_mode(i, mode, faults));
        let key = format!("interface[{i}].address");
        let address = one
            .address
            .as_ref()
            .and_then(|a| faults.parse(&key, a, "Write an IPv4 address."));
        interfaces.push(Interface {
            name,
            mode,
            address,
            rarp: wants_rarp(i, one, mode, faults),
        });
    }
    interfaces
}

fn wants_rarp(i: usize, one: &file::Interface, mode: Mode, faults: &mut Collector<'_>) -> bool {
    let Some(written) = one.rarp.as_ref().filter(|written| *written.get_ref()) else {
        return false;
    };
    if mode != Mode::Dhcp {
        faults.add(
            &format!("interface[{i}].rarp"),
            Some(written.span()),
            "RARP tells addresses, and here another server lends them",
            "Use mode \"dhcp\", or take the key out.",
        );
    }
    true
}

fn parse_mode(i: usize, written: &Spanned<String>, faults: &mut Collector<'_>) -> Mode {
    match written.get_ref().as_str() {
        "dhcp" => Mode::Dhcp,
        "proxy" => Mode::Proxy,
        "port4011" => Mode::Port4011,
        other => {
            let key = format!("interface[{i}].mode");
            let what = format!("{other:?} is no mode");
            faults.add(
                &key,
                Some(written.span()),
                &what,
                "Write \"proxy\", \"dhcp\" or \"port4011\".",
            );
            Mode::Proxy
        }
    }
}

pub(super) fn lease_seconds(
    key: &str,
    written: Option<&Spanned<u32>>,
    faults: &mut Collector<'_>,
) -> u32 {
    let seconds = written.map_or(DEFAULT_LEASE_SECONDS, |s| *s.get_ref());
    if seconds < 60 {
        let remedy = "Lend for a minute or more: clients renew at half of it.";
        faults.add(key, written.map(Spanned::span), "is below 60", remedy);
    }
    seconds
}

/// What rules call a network.
pub(super) fn short_name(
    key: &str,
    written: Option<&Spanned<String>>,
    faults: &mut Collector<'_>,
) -> Option<ShortName> {
    let written = written?;
    match ShortName::try_from(written.get_ref().clone()) {
        Ok(name) => Some(name),
        Err(error) => {
            let what = format!("is {error}");
            faults.add(key, Some(written.span()), &what, "Give it a short name.");
            None
        }
    }
}

/// Gathers faults, so that a person corrects them in one go.
pub(super) struct Collector<'a> {
    text: &'a str,
    faults: Vec<Fault>,
}

impl Collector<'_> {
    pub(super) fn add(
        &mut self,
        key: &str,
        at: Option<std::ops::Range<usize>>,
        what: &str,
        remedy: &str,
    ) {
        let line = at.map(|span| line_of(self.text, span.start));
        let (key, what, remedy) = (key.to_owned(), what.to_owned(), remedy.to_owned());
        self.faults.push(Fault {
            key,
            line,
            what,
            remedy,
        });
    }

    pub(super) fn parse<T: FromStr>(
        &mut self,
        key: &str,
        written: &Spanned<String>,
        remedy: &str,
    ) -> Option<T>
    where
        T::Err: std::fmt::Display,
    {
        match written.get_ref().parse() {
            Ok(value) => Some(value),
            Err(e) => {
                let what = format!("{:?} cannot be used: {e}", written.get_ref());
                self.add(key, Some(written.span()), &what, remedy);
                None
            }
        }
    }
}

/// The parser stops at the first fault of this kind: unknown keys, wrong types, bad syntax.
fn syntax_fault(text: &str, error: &toml::de::Error) -> Fault {
    let message = error.message();
    let remedy = if message.contains("unknown field") {
        "Correct the name, or take the key out; `farrier config reference` lists every key."
    } else {
        "Correct the line; `farrier config reference` shows every key with its type."
    };
    let key = error
        .span()
        .map_or_else(String::new, |span| key_at(text, span.start));
    Fault {
        key: if key.is_empty() {
            "file".to_owned()
        } else {
            key
        },
        line: error.span().map(|span| line_of(text, span.start)),
        what: message.trim().to_owned(),
        remedy: remedy.to_owned(),
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|b| *b == b'\n').count()
}

/// The table header above `offset` and the key in its line.
fn key_at(text: &str, offset: usize) -> String {
    let line_start = text[..offset.min(text.len())]
        .rfind('\n')
        .map_or(0, |at| at + 1);
    let line = text[line_start..].lines().next().unwrap_or("");
    let table = text[..line_start].lines().rev().find_map(|l| {
        let header = l.trim();
        header
            .starts_with('[')
            .then(|| header.trim_matches(['[', ']', ' ']).to_owned())
    });
    let key = line
        .split('=')
        .next()
        .unwrap_or("")
        .trim()
        .trim_matches(['[', ']'])
        .to_owned();
    match table {
        Some(table) if !line.trim_start().starts_with('[') => format!("{table}.{key}"),
        _ => key,
    }
}

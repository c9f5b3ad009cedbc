//! The accept loop: bounded connections, bounded patience, TLS where the plane has it.
//!
//! Handlers find the other end in an [`axum::Extension`] of [`Peer`].

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use farrier_engine::tls::Ended;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustix::net::sockopt;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower::ServiceExt;
use uuid::Uuid;

use super::failure::Failure;
use super::hello::Recorded;
use super::patience::{Held, PatientBody, PatientStream, Room};
use crate::ca;

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub addr: SocketAddr,
    /// Our address that was connected to.
    pub local: SocketAddr,
    /// Over TLS.
    pub secure: bool,
    /// From a client certificate that was verified to be ours.
    pub agent: Option<AgentIdentity>,
}

/// What a verified client certificate says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgentIdentity {
    pub machine: Uuid,
    /// SHA-256 of the public key.
    pub key: [u8; 32],
}

/// Serves `router` on `listener` until `stop` changes, then lets open requests finish.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    router: Router,
    limits: Limits,
    stop: watch::Receiver<bool>,
) {
    let tls = tls.map(|config| Tls {
        acceptor: config.into(),
        watch: None,
    });
    accept(listener, tls, router, limits, stop).await;
}

/// The same with TLS whose failures somebody is told of.
pub async fn serve_watched(
    listener: TcpListener,
    (config, watch): (Arc<ServerConfig>, Watch),
    router: Router,
    limits: Limits,
    stop: watch::Receiver<bool>,
) {
    let tls = Tls {
        acceptor: config.into(),
        watch: Some(watch),
    };
    accept(listener, Some(tls), router, limits, stop).await;
}

/// Who looks at clients before they are secure.
#[derive(Clone)]
pub struct Watch {
    /// Whether this address may cost us a handshake.
    pub admits: Arc<dyn Fn(IpAddr) -> bool + Send + Sync>,
    /// A handshake came to nothing; the bytes are what the client sent.
    pub failed: Arc<Failed>,
}

/// Takes who it was, what he sent, and how it ended.
pub type Failed = dyn Fn(&Peer, &[u8], Ended) + Send + Sync;

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

#[derive(Clone)]
struct Tls {
    acceptor: TlsAcceptor,
    watch: Option<Watch>,
}

async fn accept(
    listener: TcpListener,
    tls: Option<Tls>,
    router: Router,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) {
    answers_leave_at_once(&listener);
    // Connections have the listener's address, unless it listens on all.
    let own = listener.local_addr().ok();
    let own = own.filter(|own| !own.ip().is_unspecified());
    let places = Arc::new(Places::new(limits));
    let room = Arc::new(Room::new(limits.bodies));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => return,
        };
        let (stream, addr) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors or the like: others may free some.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(place) = places.take(addr.ip()) else {
            tracing::debug!(%addr, "connection refused: too many");
            continue;
        };
        let (tls, stop) = (tls.clone(), stop.clone());
        let plane = Plane {
            router: router.clone(),
            room: Arc::clone(&room),
        };
        tokio::spawn(async move {
            let _place = place;
            let ended = match own.map_or_else(|| stream.local_addr(), Ok) {
                Ok(local) => connection(stream, (addr, local), tls, plane, stop).await,
                Err(error) => Err(error.into()),
            };
            if let Err(error) = ended {
                tracing::debug!(%addr, %error, "connection ended early");
            }
        });
    }
}

/// Switches Nagle's algorithm off. On Linux connections have that from their listener.
fn answers_leave_at_once(listener: &TcpListener) {
    if let Err(error) = sockopt::set_tcp_nodelay(listener, true) {
        tracing::warn!(%error, "small answers may wait for others");
    }
}

/// How many connections may be open, and how much may be on its way to us over them.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub total: usize,
    pub per_address: usize,
    /// Bytes of the bodies of all open requests.
    pub bodies: usize,
}

/// What all connections of a listener share.
#[derive(Clone)]
struct Plane {
    router: Router,
    room: Arc<Room>,
}

type Broken = Box<dyn std::error::Error + Send + Sync>;

async fn connection(
    stream: TcpStream,
    (addr, local): (SocketAddr, SocketAddr),
    tls: Option<Tls>,
    plane: Plane,
    stop: watch::Receiver<bool>,
) -> Result<(), Broken> {
    let peer = Peer {
        addr,
        local,
        secure: tls.is_some(),
        agent: None,
    };
    let stream = PatientStream::new(stream);
    match tls {
        None => plain_requests(stream, peer, plane, stop).await,
        // In a box: the state of TLS and HTTP/2 is some kilobytes, which plain connections would carry about.
        Some(tls) => Box::pin(secure(stream, peer, tls, plane, stop)).await,
    }
}

async fn secure(
    stream: PatientStream,
    mut peer: Peer,
    tls: Tls,
    plane: Plane,
    stop: watch::Receiver<bool>,
) -> Result<(), Broken> {
    let stream = handshake(stream, &peer, &tls).await?;
    let certificate = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first());
    peer.agent = certificate
        .and_then(ca::agent_identity)
        .map(|(machine, key)| AgentIdentity { machine, key });
    secure_requests(stream, peer, plane, stop).await
}

async fn handshake(
    stream: PatientStream,
    peer: &Peer,
    tls: &Tls,
) -> Result<TlsStream<Recorded<PatientStream>>, Broken> {
    if let Some(watch) = &tls.watch
        && !(watch.admits)(peer.addr.ip().to_canonical())
    {
        return Err("it is not from a served network".into());
    }
    let (stream, sent) = Recorded::new(stream);
    let handshake = tokio::time::timeout(HANDSHAKE, tls.acceptor.accept(stream)).await;
    let (ended, error): (_, Broken) = match handshake {
        Ok(Ok(mut stream)) => {
            stream.get_mut().0.stop();
            return Ok(stream);
        }
        Ok(Err(error)) => (ended(&error), error.into()),
        Err(late) => (Ended::Left, late.into()),
    };
    if let Some(watch) = &tls.watch {
        (watch.failed)(peer, &sent.bytes(), ended);
    }
    Err(error)
}

fn ended(error: &io::Error) -> Ended {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(rustls::Error::AlertReceived(alert)) => Ended::Alert(u8::from(*alert)),
        Some(_) => Ended::Refused,
        None => Ended::Left,
    }
}

/// HTTP/2 is agreed on within TLS (RFC 9113 section 3.2), and firmware does not know it.
async fn plain_requests(
    stream: PatientStream,
    peer: Peer,
    plane: Plane,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Broken> {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), answers(plane, peer, Arc::default()));
    tokio::pin!(connection);
    tokio::select! {
        result = connection.as_mut() => return Ok(result?),
        _ = stop.changed() => connection.as_mut().graceful_shutdown(),
    }
    Ok(connection.await?)
}

async fn secure_requests(
    stream: TlsStream<Recorded<PatientStream>>,
    peer: Peer,
    plane: Plane,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Broken> {
    let asked = Arc::new(AtomicBool::new(false));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(MAX_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE);
    let service = answers(plane, peer, Arc::clone(&asked));
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        result = connection.as_mut() => return result,
        () = silence(&asked) => return Err("no request came".into()),
        _ = stop.changed() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

/// What answers the requests of one connection; `asked` is set by the first.
fn answers(
    plane: Plane,
    peer: Peer,
    asked: Arc<AtomicBool>,
) -> impl Service<
    Request<Incoming>,
    Response = Response,
    Error = Infallible,
    Future: Future<Output = Result<Response, Infallible>> + Send + 'static,
> {
    service_fn(move |request: Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        let held = Held::none(&plane.room);
        let mut request = request.map(|body| Body::new(PatientBody::new(body, Arc::clone(&held))));
        request.extensions_mut().insert(peer);
        let router = plane.router.clone();
        async move {
            let answer = router.oneshot(request).await;
            if held.was_refused() {
                return Ok(crowded());
            }
            answer
        }
    })
}

fn crowded() -> Response {
    let text = "Too much is being sent to this server at once.";
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, "crowded", text)
        .hint("Send it again in a moment.")
        .retry()
        .into_response()
}

/// Ends when no request came in time. hyper's own patience begins only when it knows whether HTTP/1 or
/// HTTP/2 is spoken, and with HTTP/2 only after its first settings.
async fn silence(asked: &AtomicBool) {
    tokio::time::sleep(HEADERS).await;
    if asked.load(Ordering::Relaxed) {
        std::future::pending().await
    }
}

/// Places for open connections, so that one address cannot take them all.
#[derive(Debug)]
struct Places {
    limits: Limits,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Places {
    fn new(limits: Limits) -> Self {
        Self {
            limits,
            taken: Mutex::default(),
        }
    }

    fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let mut taken = self.lock();
        let own = taken.by_address.get(&address).copied().unwrap_or(0);
        if own >= self.limits.per_address || taken.total >= self.limits.total {
            return None;
        }
        taken.total += 1;
        taken.by_address.insert(address, own + 1);
        Some(Place {
            places: Arc::clone(self),
            address,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.total -= 1;
        if let Some(own) = taken.by_address.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

/// A client that sends nothing is gone; state is freed well within a minute.
const HEADERS: Duration = Duration::from_secs(30);
const HANDSHAKE: Duration = Duration::from_secs(15);
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Loaders and agents send short heads.
const MAX_HEAD: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;

    use tokio::net::{TcpListener, TcpStream};

    use super::{Limits, Places, answers_leave_at_once};

    #[tokio::test]
    async fn answers_of_accepted_connections_leave_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        answers_leave_at_once(&listener);
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(client, listener.accept());
        assert!(accepted.unwrap().0.nodelay().unwrap());
        drop(client);
    }

    #[test]
    fn t9_one_address_cannot_take_every_place() {
        let places = Arc::new(Places::new(Limits {
            total: 3,
            per_address: 2,
            bodies: 0,
        }));
        let [a, b, c] = [1, 2, 3].map(|n| IpAddr::V4(Ipv4Addr::new(10, 0, 0, n)));
        let first = places.take(a);
        let second = places.take(a);
        assert!(first.is_some() && second.is_some());
        assert!(places.take(a).is_none(), "the address has its share");
        let third = places.take(b);
        assert!(
            third.is_some() && places.take(c).is_none(),
            "all places are taken"
        );
        drop(first);
        assert!(places.take(c).is_some(), "a place is free again");
        drop((second, third));
        let taken = places.lock();
        assert_eq!((taken.total, taken.by_address.len()), (0, 0));
    }
}

//! A small server of the agent plane: real TLS, real certificates, a store in memory, and faults on demand.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use bytes::BytesMut;
use farrier_api::agent::{
    EnrolAnswer, EnrolRequest, Inventory, LogLines, Order, Outcome, ProgressAnswer, ProgressReport,
    ResultReport, read_frame, write_frame,
};
use farrier_api::client::{CaPin, Identity, ServerAddress};
use farrier_image::chunk::MAX_STORED_CHUNK;
use farrier_image::key::SigningKey;
use farrier_image::manifest::{MAX_PLAIN, Manifest, SignedManifest};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, SanType,
};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use uuid::Uuid;

pub(crate) const MACHINE: Uuid = Uuid::from_u128(7);
pub(crate) const TOKEN: &str = "token-1";

/// A certificate authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) root: CertificateDer<'static>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap().der().clone();
        Self {
            issuer: Issuer::new(params, key),
            root,
        }
    }

    pub(crate) fn pin(&self) -> CaPin {
        CaPin::of(&self.root)
    }

    fn server_identity(
        &self,
        address: IpAddr,
        last_year: i32,
    ) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.not_after = rcgen::date_time_ymd(last_year, 12, 31);
        params.subject_alt_names = vec![SanType::IpAddress(address)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        (
            vec![leaf, self.root.clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
    }

    /// What an enrolled agent shows.
    pub(crate) fn identity(&self) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Identity {
            chain: vec![leaf],
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    }

    fn sign(&self, csr: &str) -> String {
        let mut request = CertificateSigningRequestParams::from_pem(csr).unwrap();
        request.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        request.signed_by(&self.issuer).unwrap().pem()
    }
}

/// What the server knows and was told.
pub(crate) struct Plane {
    pub(crate) authority: Authority,
    pub(crate) signing: SigningKey,
    pub(crate) token_used: AtomicU32,
    /// How often `enrol` answers "pending" first.
    pub(crate) pending: AtomicU32,
    /// How many requests for work and chunks fail first.
    pub(crate) faults: AtomicU32,
    /// How long a commit takes, in milliseconds.
    pub(crate) commit_ms: AtomicU32,
    /// Requests beside `enrol` that came without a client certificate.
    pub(crate) uncertified: AtomicU32,
    pub(crate) orders: Mutex<VecDeque<Order>>,
    pub(crate) inventories: Mutex<Vec<Inventory>>,
    pub(crate) outcomes: Mutex<Vec<Outcome>>,
    pub(crate) stop: Mutex<Option<String>>,
    pub(crate) chunks: Mutex<HashMap<[u8; 32], Bytes>>,
    pub(crate) manifest: Mutex<Option<Vec<u8>>>,
}

impl Plane {
    pub(crate) fn new() -> Self {
        Self {
            authority: Authority::new(),
            signing: SigningKey::generate().unwrap(),
            token_used: AtomicU32::new(0),
            pending: AtomicU32::new(0),
            faults: AtomicU32::new(0),
            commit_ms: AtomicU32::new(0),
            uncertified: AtomicU32::new(0),
            orders: Mutex::default(),
            inventories: Mutex::default(),
            outcomes: Mutex::default(),
            stop: Mutex::default(),
            chunks: Mutex::default(),
            manifest: Mutex::default(),
        }
    }

    fn fault(&self) -> bool {
        self.faults
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            })
            .is_ok()
    }
}

/// How the server presents itself.
pub(crate) struct Face {
    pub(crate) address_in_certificate: IpAddr,
    /// That the certificate is good for.
    pub(crate) last_year: i32,
    pub(crate) version: &'static rustls::SupportedProtocolVersion,
}

impl Default for Face {
    fn default() -> Self {
        Self {
            address_in_certificate: Ipv4Addr::LOCALHOST.into(),
            last_year: 4000,
            version: &rustls::version::TLS13,
        }
    }
}

/// Starts serving on a free port.
pub(crate) async fn start(plane: &Arc<Plane>, face: Face) -> ServerAddress {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(plane.authority.root.clone()).unwrap();
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let (chain, key) = plane
        .authority
        .server_identity(face.address_in_certificate, face.last_year);
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[face.version])
        .unwrap()
        .with_client_cert_verifier(clients.allow_unauthenticated().build().unwrap())
        .with_single_cert(chain, key)
        .unwrap();
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = ServerAddress(tcp.local_addr().unwrap());
    let listener = Tls {
        tcp,
        acceptor: TlsAcceptor::from(Arc::new(config)),
    };
    let service = router(Arc::clone(plane)).into_make_service_with_connect_info::<Certified>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    address
}

struct Tls {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
}

impl axum::serve::Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let Ok((stream, peer)) = self.tcp.accept().await else {
                continue;
            };
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// Whether the connection came with a client certificate of ours.
#[derive(Clone)]
struct Certified(bool);

impl Connected<IncomingStream<'_, Tls>> for Certified {
    fn connect_info(stream: IncomingStream<'_, Tls>) -> Self {
        Self(stream.io().get_ref().1.peer_certificates().is_some())
    }
}

type Shared = State<Arc<Plane>>;

fn router(plane: Arc<Plane>) -> Router {
    let certified = Router::new()
        .route("/agent/v1/inventory", post(inventory))
        .route("/agent/v1/work", get(work))
        .route(
            "/agent/v1/log",
            post(async |Json(_): Json<LogLines>| StatusCode::NO_CONTENT),
        )
        .route("/agent/v1/tasks/{id}/progress", post(progress))
        .route("/agent/v1/tasks/{id}/result", post(result))
        .route("/agent/v1/store/missing", post(missing))
        .route("/agent/v1/store/chunks", post(put))
        .route("/agent/v1/store/commit", post(commit))
        .route("/agent/v1/store/manifests/{image}/{version}", get(manifest))
        .route("/agent/v1/store/fetch", post(fetch))
        .layer(axum::extract::DefaultBodyLimit::max(64 << 20))
        .layer(axum::middleware::from_fn_with_state(
            Arc::clone(&plane),
            only_certified,
        ));
    Router::new()
        .route("/agent/v1/enrol", post(enrol))
        .merge(certified)
        .with_state(plane)
}

async fn only_certified(
    State(plane): Shared,
    ConnectInfo(certified): ConnectInfo<Certified>,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Response {
    if certified.0 {
        return next.run(request).await;
    }
    plane.uncertified.fetch_add(1, Ordering::SeqCst);
    StatusCode::UNAUTHORIZED.into_response()
}

async fn enrol(State(plane): Shared, Json(request): Json<EnrolRequest>) -> Response {
    if request.token != TOKEN || plane.token_used.load(Ordering::SeqCst) > 0 {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if plane
        .pending
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
            left.checked_sub(1)
        })
        .is_ok()
    {
        return Json(EnrolAnswer::Pending {
            code: "K7-42".into(),
            retry_s: 1,
        })
        .into_response();
    }
    plane.token_used.fetch_add(1, Ordering::SeqCst);
    let key: String = plane
        .signing
        .verifying_key()
        .0
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Json(EnrolAnswer::Enrolled {
        machine: MACHINE,
        name: Some("lab-1".into()),
        certificate: plane.authority.sign(&request.csr),
        image_keys: vec![key],
    })
    .into_response()
}

async fn inventory(State(plane): Shared, Json(inventory): Json<Inventory>) -> StatusCode {
    plane.inventories.lock().unwrap().push(inventory);
    StatusCode::NO_CONTENT
}

async fn work(State(plane): Shared) -> Response {
    if plane.fault() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    Json(
        plane
            .orders
            .lock()
            .unwrap()
            .pop_front()
            .unwrap_or(Order::Wait),
    )
    .into_response()
}

async fn progress(State(plane): Shared, Json(_): Json<ProgressReport>) -> Json<ProgressAnswer> {
    Json(ProgressAnswer {
        stop: plane.stop.lock().unwrap().clone(),
    })
}

async fn result(State(plane): Shared, Json(report): Json<ResultReport>) -> StatusCode {
    plane.outcomes.lock().unwrap().push(report.outcome);
    StatusCode::NO_CONTENT
}

fn ids(body: &[u8]) -> Vec<[u8; 32]> {
    body.as_chunks::<32>().0.to_vec()
}

async fn missing(State(plane): Shared, body: Bytes) -> Vec<u8> {
    let chunks = plane.chunks.lock().unwrap();
    ids(&body)
        .iter()
        .map(|id| u8::from(!chunks.contains_key(id)))
        .collect()
}

async fn put(State(plane): Shared, body: Bytes) -> StatusCode {
    if plane.fault() {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let mut body = BytesMut::from(&body[..]);
    while let Some((id, frame)) = read_frame(&mut body, MAX_STORED_CHUNK).unwrap() {
        plane.chunks.lock().unwrap().insert(id, frame);
    }
    StatusCode::NO_CONTENT
}

async fn commit(State(plane): Shared, body: Bytes) -> Result<Vec<u8>, StatusCode> {
    let slow = plane.commit_ms.load(Ordering::SeqCst);
    tokio::time::sleep(std::time::Duration::from_millis(slow.into())).await;
    let mut manifest = Manifest::decode(&body, MAX_PLAIN).map_err(|_| StatusCode::BAD_REQUEST)?;
    manifest.version = 1;
    let signed = SignedManifest::seal(&manifest, &plane.signing).unwrap();
    *plane.manifest.lock().unwrap() = Some(signed.bytes.clone());
    Ok(signed.bytes)
}

async fn manifest(
    State(plane): Shared,
    Path(_): Path<(String, String)>,
) -> Result<Vec<u8>, StatusCode> {
    plane
        .manifest
        .lock()
        .unwrap()
        .clone()
        .ok_or(StatusCode::NOT_FOUND)
}

/// A fault here cuts the answer in the middle of a chunk.
async fn fetch(State(plane): Shared, body: Bytes) -> Vec<u8> {
    let chunks = plane.chunks.lock().unwrap();
    let mut out = BytesMut::new();
    for id in ids(&body) {
        if let Some(frame) = chunks.get(&id) {
            write_frame(&mut out, &id, frame);
        }
    }
    if plane.fault() {
        out.truncate(out.len() - 10);
    }
    out.to_vec()
}

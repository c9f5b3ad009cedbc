//! HTTP/1.1 written by hand, for what no honest client would send.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use farrier_api::client::{CaPin, Identity, client_config};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Asks over TLS, with a connection of its own.
pub async fn ask(
    at: SocketAddr,
    pin: CaPin,
    who: Option<Identity>,
    method: &str,
    path: &str,
    body: &[u8],
) -> Answer {
    let mut request = head(method, path, body.len());
    request.extend_from_slice(body);
    send_raw(tls(at, pin, who).await, &request)
        .await
        .unwrap_or_else(|| panic!("no answer to {method} {path}"))
}

pub fn head(method: &str, path: &str, len: usize) -> Vec<u8> {
    let kind = if path.contains("/store/") {
        "application/octet-stream"
    } else {
        "application/json"
    };
    format!(
        "{method} {path} HTTP/1.1\r\nhost: farrier\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {len}\r\n\r\n"
    )
    .into_bytes()
}

pub async fn tls(
    at: SocketAddr,
    pin: CaPin,
    who: Option<Identity>,
) -> impl AsyncRead + AsyncWrite + Unpin {
    let connector = TlsConnector::from(Arc::new(client_config(pin, who).unwrap()));
    let stream = TcpStream::connect(at).await.unwrap();
    connector
        .connect(ServerName::from(at.ip()), stream)
        .await
        .unwrap()
}

/// Sends `request` and reads one answer. None if the other side just closed.
pub async fn send_raw(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &[u8],
) -> Option<Answer> {
    // A refusal may come, and the connection go, before all was sent.
    let _ = stream.write_all(request).await;
    read_answer(&mut stream).await
}

pub async fn read_answer(stream: &mut (impl AsyncRead + Unpin)) -> Option<Answer> {
    let mut bytes = Vec::new();
    let read = async {
        let mut piece = [0; 8192];
        loop {
            if let Some(answer) = parse(&bytes) {
                return Some(answer);
            }
            match stream.read(&mut piece).await {
                Ok(0) | Err(_) => return parse_to_end(&bytes),
                Ok(len) => bytes.extend_from_slice(&piece[..len]),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(40), read)
        .await
        .expect("no end of an answer in 40 s")
}

/// A whole answer, as far as its length is told.
fn parse(bytes: &[u8]) -> Option<Answer> {
    let answer = parse_to_end(bytes)?;
    let len = answer.header("content-length")?.parse::<usize>().ok()?;
    let (head_only, enough) = (answer.status == 204, answer.body.len() >= len);
    (head_only || enough).then_some(answer)
}

fn parse_to_end(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer {
        status,
        head,
        body: bytes[end + 4..].to_vec(),
    })
}

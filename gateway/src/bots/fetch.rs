//! A list that somebody publishes, over https.

use std::{path::Path, time::Duration};

use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, task::JoinSet};
use tokio_rustls::TlsConnector;

use super::lists::FILE_BYTES_MAX;
use crate::tls::client_config;

/// All of it, from the name of the host to the last byte.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// The text at an https address. Believed are the authorities of a file, or those of the system.
pub(super) async fn get(url: &str, authorities: Option<&Path>) -> Result<String, String> {
    let tls = TlsConnector::from(client_config(authorities)?);
    let late = |_| format!("no whole answer within {} s", WAIT_MAX.as_secs());
    tokio::time::timeout(WAIT_MAX, ask(url, &tls)).await.map_err(late)?
}

async fn ask(url: &str, tls: &TlsConnector) -> Result<String, String> {
    let uri: Uri = url.parse().map_err(|e| format!("{e}"))?;
    let host = uri.host().ok_or("it names no host")?;
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(|e| e.to_string())?;
    let port = uri.port_u16().unwrap_or(443);
    let tcp = TcpStream::connect((host.trim_matches(['[', ']']), port)).await.map_err(|e| format!("{host}:{port}: {e}"))?;
    let tls = tls.connect(name, tcp).await.map_err(|e| format!("{host}:{port}: {e}{}", hint(&e)))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.map_err(|e| e.to_string())?;
    let target = uri.path_and_query().map_or("/", |p| p.as_str());
    let request = Request::get(target)
        .header(header::HOST, uri.authority().map_or(host, |a| a.as_str()))
        .header(header::USER_AGENT, concat!("tidegate/", env!("CARGO_PKG_VERSION")))
        .header(header::ACCEPT, "application/json, text/plain;q=0.9, */*;q=0.1")
        .body(Empty::<Bytes>::new())
        .map_err(|e| e.to_string())?;
    // Ends with this, whatever comes of it.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
    if answer.status() != StatusCode::OK {
        return Err(refused(&answer));
    }
    if let Some(packed) = answer.headers().get(header::CONTENT_ENCODING).filter(|e| e.as_bytes() != b"identity") {
        return Err(format!("it is packed as {packed:?}, which was not asked for"));
    }
    let body = Limited::new(answer.into_body(), FILE_BYTES_MAX as usize).collect().await;
    let bytes = body.map_err(|e| format!("{e}; at most 1 MiB is read"))?.to_bytes();
    String::from_utf8(bytes.into()).map_err(|_| "it is no UTF-8 text".into())
}

/// The most usual mistake with a certificate of one's own.
fn hint(error: &std::io::Error) -> &'static str {
    match error.to_string().contains("CaUsedAsEndEntity") {
        true => ": the server shows the certificate of an authority; let that authority sign one for the server",
        false => "",
    }
}

fn refused<B>(answer: &http::Response<B>) -> String {
    let status = answer.status();
    match answer.headers().get(header::LOCATION).and_then(|l| l.to_str().ok()) {
        Some(location) => format!("it answers {status} and leads to {location}: write the address where the list is"),
        None => format!("it answers {status}"),
    }
}

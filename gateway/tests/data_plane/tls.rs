//! TLS: both protocols, certificates swapped live, clients that do not go on.

use std::{path::Path, sync::Arc};

use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tidegate_config::{Health, Policy, Tls, Upstream, UpstreamTls};
use tidegate_filters::Span;
use tidegate_gateway::{
    counts::Turned,
    serve::{Bound, ServeError},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::support::{Gate, Shop, eventually, once, plain_policy, request};

/// Accepts any certificate: what is tested is which one came.
#[derive(Debug)]
struct Anything;

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

async fn connect(addr: std::net::SocketAddr, alpn: &[&[u8]]) -> TlsStream<TcpStream> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.dangerous().with_custom_certificate_verifier(Arc::new(Anything)).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    let stream = TcpStream::connect(addr).await.unwrap();
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("shop.example").unwrap(), stream).await.unwrap()
}

fn write_certificate(dir: &Path) -> Tls {
    let made = rcgen::generate_simple_self_signed(vec!["shop.example".into()]).unwrap();
    let files = Tls { certificate: dir.join("cert.pem"), key: dir.join("key.pem") };
    std::fs::write(&files.certificate, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    files
}

fn tls_policy(shop: &Shop, dir: &Path) -> Policy {
    let mut policy = plain_policy(shop.addr);
    policy.listen[0].tls = Some(write_certificate(dir));
    policy
}

fn certificate_of(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_and_http_1_1_are_served_over_tls() {
    let (shop, dir) = (Shop::start().await, tempfile::tempdir().unwrap());
    let gate = Gate::start(&tls_policy(&shop, dir.path())).await;
    let h2 = connect(gate.addr(), &[b"h2", b"http/1.1"]).await;
    assert_eq!(h2.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut send, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(h2)).await.unwrap();
    tokio::spawn(connection);
    for path in ["/a//%62", "/c"] {
        // As browsers send them over HTTP/2.
        let request = hyper::Request::get(format!("https://shop.example{path}")).header("cookie", "session=abc");
        let request = request.header("cookie", "cart=42").body(Empty::<bytes::Bytes>::new()).unwrap();
        let answer = send.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        let body = String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
        assert!(body.starts_with("GET /a/b 0") || body.starts_with("GET /c 0"), "{body}");
        assert!(body.contains("x-forwarded-proto: https\n") && body.contains("host: shop.example\n"), "{body}");
        assert!(body.contains("cookie: session=abc; cart=42\n") && body.matches("cookie:").count() == 1, "{body}");
    }
    // What HTTP/1 heads are refused for, HTTP/2 requests are as well.
    for (path, name, status) in [("/a%2fb", "x", 400), ("/a", "x_y", 400)] {
        let request = hyper::Request::get(format!("https://shop.example{path}")).header(name, "1");
        let answer = send.send_request(request.body(Empty::<bytes::Bytes>::new()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), status, "{path} {name}");
    }
    let mut h1 = connect(gate.addr(), &[b"http/1.1"]).await;
    h1.write_all(b"GET /d HTTP/1.1\r\nhost: shop.example\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    let _ = h1.read_to_string(&mut text).await;
    assert!(text.starts_with("HTTP/1.1 200 OK") && text.contains("GET /d 0"), "{text}");
    let rows = gate.rows(3).await;
    assert_eq!(rows.len(), 3, "refused heads have no row");
    assert_ne!(rows[0].fingerprint, rows[2].fingerprint, "another hello, another fingerprint");
    assert_eq!(rows[2].h2, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_http_2_client_says_first_is_part_of_how_it_looks() {
    let (shop, dir) = (Shop::start().await, tempfile::tempdir().unwrap());
    let gate = Gate::start(&tls_policy(&shop, dir.path())).await;
    for window in [65_536, 131_072, 65_536] {
        let stream = TokioIo::new(connect(gate.addr(), &[b"h2"]).await);
        let mut client = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        let (mut send, connection) = client.initial_stream_window_size(window).handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        for path in ["/a", "/b"] {
            let request = hyper::Request::get(format!("https://shop.example{path}"));
            assert_eq!(send.send_request(request.body(Empty::<bytes::Bytes>::new()).unwrap()).await.unwrap().status(), 200);
        }
        drop(send);
        let _ = connection.await;
    }
    let rows = gate.rows(6).await;
    let said = |i: usize| rows[i].h2.as_deref().unwrap_or_default();
    assert!(
        said(0).contains("4:65536") && said(2).contains("4:131072") && said(0).ends_with("|m,s,a,p"),
        "{} {}",
        said(0),
        said(2)
    );
    assert_eq!([said(1), said(4)], [said(0); 2], "of all requests, and of all connections of a program");
    let looks = |i: usize| rows[i].fingerprint;
    assert!(looks(0) == looks(1) && looks(0) == looks(5) && looks(0) != looks(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shop_may_speak_tls_and_its_certificate_is_checked() {
    let (shop, dir, other) = (Shop::start().await, tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // A gate is a TLS shop that speaks both protocols.
    let tls_shop = Gate::start(&tls_policy(&shop, dir.path())).await;
    for (http2, authorities, status) in [
        (false, dir.path().join("cert.pem"), 200),
        (true, dir.path().join("cert.pem"), 200),
        (false, write_certificate(other.path()).certificate, 502),
        (false, other.path().join("missing.pem"), 502),
    ] {
        let mut policy = plain_policy(tls_shop.addr());
        let tls = UpstreamTls { server_name: "shop.example".into(), authorities: Some(authorities) };
        policy.shop.upstreams[0] = Upstream { http2, tls: Some(tls), ..policy.shop.upstreams[0].clone() };
        policy.shop.health = Health { path: Some("/well".into()), every: Span(100), unhealthy_after: 2, ..Health::default() };
        let gate = Gate::start(&policy).await;
        let before = tls_shop.rows.0.lock().len();
        let reply = once(gate.addr(), request("POST", "/x", &[], "abc")).await;
        assert!(reply.status == status || (status == 502 && reply.status == 503), "{http2}: {reply:?}");
        if status == 200 {
            assert_eq!(reply.body.lines().next(), Some("POST /x 3"));
            eventually(|| tls_shop.rows.0.lock()[before..].iter().any(|r| r.path == "/well" && r.status == 200)).await;
            assert!(gate.shared.active.load().upstreams.any_healthy());
        } else {
            eventually(|| !gate.shared.active.load().upstreams.any_healthy()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_lets_http_2_requests_end() {
    let (shop, dir) = (Shop::start().await, tempfile::tempdir().unwrap());
    let gate = Gate::start(&tls_policy(&shop, dir.path())).await;
    let h2 = connect(gate.addr(), &[b"h2"]).await;
    let (mut send, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(h2)).await.unwrap();
    tokio::spawn(connection);
    let request = hyper::Request::get("https://shop.example/hold").body(Empty::<bytes::Bytes>::new()).unwrap();
    let answer = tokio::spawn(send.send_request(request));
    eventually(|| shop.state.in_flight.load(std::sync::atomic::Ordering::SeqCst) == 1).await;
    gate.begin_stop();
    eventually(|| std::net::TcpStream::connect(gate.addr()).is_err()).await;
    shop.state.release.notify_waiters();
    let answer = answer.await.unwrap().unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "released");
    assert_eq!(gate.stopped().await.left, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_certificate_is_used_without_a_restart() {
    let (shop, dir) = (Shop::start().await, tempfile::tempdir().unwrap());
    let policy = tls_policy(&shop, dir.path());
    let bound = Bound::new(&policy).unwrap();
    let certificate = bound.certificates().remove(0);
    drop(bound);
    let gate = Gate::start(&policy).await;
    let old = certificate_of(&connect(gate.addr(), &[b"h2"]).await);
    write_certificate(dir.path());
    let later = std::fs::metadata(dir.path().join("cert.pem")).unwrap().modified().unwrap() + std::time::Duration::from_secs(9);
    for file in ["cert.pem", "key.pem"] {
        std::fs::File::options().write(true).open(dir.path().join(file)).unwrap().set_modified(later).unwrap();
    }
    assert!(certificate.reload().unwrap(), "a reload on demand");
    let mut new = old.clone();
    for _ in 0..100 {
        let stream = connect(gate.addr(), &[b"h2"]).await;
        new = certificate_of(&stream);
        if new != old {
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_ne!(new, old);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_with_a_foreign_key_does_not_start() {
    let (shop, dir) = (Shop::start().await, tempfile::tempdir().unwrap());
    let mut policy = tls_policy(&shop, dir.path());
    let other = tempfile::tempdir().unwrap();
    let foreign = write_certificate(other.path());
    if let Some(tls) = &mut policy.listen[0].tls {
        tls.key = foreign.key;
    }
    let error = Bound::new(&policy).unwrap_err();
    assert!(matches!(error, ServeError::Certificate { .. }) && error.to_string().contains("is not the key of"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stops_half_way_is_let_go() {
    let (shop, dir) = (Shop::start().await, tempfile::tempdir().unwrap());
    let mut policy = tls_policy(&shop, dir.path());
    policy.limits_of_a_request.header_deadline = Span(300);
    let gate = Gate::start(&policy).await;
    let counts = &gate.shared.counts;
    let silent = TcpStream::connect(gate.addr()).await.unwrap();
    let no_preface = connect(gate.addr(), &[b"h2"]).await;
    let mut half_preface = connect(gate.addr(), &[b"h2"]).await;
    half_preface.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    eventually(|| counts.turned_away(Turned::NoPreface) == 2 && gate.shared.caps.open() == 0).await;
    let mut plain = TcpStream::connect(gate.addr()).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    eventually(|| counts.turned_away(Turned::TlsFailed) >= 1 && gate.shared.caps.open() == 0).await;
    drop((silent, no_preface, half_preface, plain));
}

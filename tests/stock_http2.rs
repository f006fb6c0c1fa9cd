//! Stock over HTTP/2: a client that goes away leaves no unit in doubt.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{
    stock::{BY_HEADER, Forgetful, inside, policy, units, until},
    support::gate,
};

#[test]
fn an_http_2_client_that_goes_away_leaves_no_unit_in_doubt() {
    let (shop, dir) = (Forgetful::start(), tempfile::tempdir().unwrap());
    let made = rcgen::generate_simple_self_signed(vec!["shop.example".into()]).unwrap();
    std::fs::write(dir.path().join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(dir.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let both = "listen: [ { address: 127.0.0.1:0 }, { address: 127.0.0.1:0, tls: { certificate: \"{dir}/cert.pem\", key: \"{dir}/key.pem\" } } ]";
    // Both are one visitor: same program, same network, no cookie.
    let text = policy(2, BY_HEADER)
        .replace("per_visitor_max: 1", "per_visitor_max: 2")
        .replace("listen: [ { address: 127.0.0.1:0 } ]", both);
    let gate = gate(&text, shop.address, dir.path());
    let passes: Vec<String> =
        (0..2).map(|_| inside(gate.addresses()[0]).cookies.iter().find(|(n, _)| n.contains("pass")).unwrap().1.clone()).collect();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let mut tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let order = |pass: &str, how: &'static str| {
        let request = Request::post("https://shop.example/checkout").header("authorization", format!("Tidegate {pass}"));
        request.body(Full::new(Bytes::from_static(how.as_bytes()))).unwrap()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let tcp = TcpStream::connect(gate.addresses()[1]).await.unwrap();
        let tls = TlsConnector::from(Arc::new(tls)).connect("shop.example".try_into().unwrap(), tcp).await.unwrap();
        let (mut send, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await.unwrap();
        let connection = tokio::spawn(connection);
        let answer = send.send_request(order(&passes[0], "how=sold")).await.unwrap();
        assert!(answer.status() == 303, "{answer:?}");
        assert_eq!((answer.status().as_u16(), answer.headers()["location"].to_str().unwrap()), (303, "/thanks/1"));
        assert!(answer.headers().get("tidegate-sold").is_none() && answer.into_body().collect().await.is_ok());
        // The next one is gone before the shop answers, connection and all.
        let gone = tokio::time::timeout(Duration::from_millis(200), send.send_request(order(&passes[1], "how=slow"))).await;
        assert!(gone.is_err(), "{gone:?}");
        connection.abort();
    });
    until("the shop's word is heard", || units(&gate, dir.path())["in_flight"] == 0);
    let u = units(&gate, dir.path());
    assert_eq!((&u["sold"], &u["uncertain"]), (&2.into(), &0.into()), "{u}");
    gate.stop().unwrap();
}

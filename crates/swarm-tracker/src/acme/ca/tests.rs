use std::fmt::Write as _;
use std::net::SocketAddr;

use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

/// What an authority answers: to whom and what, and whether it was asked for that.
type Answer = fn(&str) -> Option<(&'static str, String)>;

const JSON: &str = "Content-Type: application/json\r\n";

/// An authority of a few lines, and a client that believes in it and has an account there.
async fn authority(dir: &std::path::Path, answer: Answer) -> Ca {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
    let root = dir.join("root.pem");
    std::fs::write(&root, made.cert.pem()).expect("written");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("some version")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("they belong together");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("bound");
    tokio::spawn(serve(
        listener,
        TlsAcceptor::from(Arc::new(config)),
        addr,
        answer,
    ));
    let acme = AcmeConfig {
        directory: format!("https://localhost:{}/dir", addr.port()),
        ca_file: Some(root),
        ..AcmeConfig::default()
    };
    let store = Arc::new(Store::open(dir, &acme.directory, Arc::clone(&provider)).expect("opened"));
    let key = KeyPair::generate().expect("made").serialize_der();
    let kept = serde_json::json!({"contact": [], "credentials": {
        "id": format!("https://localhost:{}/account", addr.port()),
        "key_pkcs8": data_encoding::BASE64URL_NOPAD.encode(&key),
        "directory": acme.directory,
    }});
    store
        .save_account(kept.to_string().as_bytes())
        .expect("kept");
    Ca::open(&acme, store, provider).expect("opened")
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, addr: SocketAddr, answer: Answer) {
    while let Ok((stream, _)) = listener.accept().await {
        let Ok(mut stream) = tls.accept(stream).await else {
            continue;
        };
        let mut heard = vec![0; 16 * 1024];
        let len = stream.read(&mut heard).await.unwrap_or(0);
        let head = String::from_utf8_lossy(&heard[..len]).into_owned();
        let asked = head.split(" HTTP/").next().unwrap_or_default();
        let (head, body) = answer(asked).unwrap_or(("404 Not Found\r\n", "{}".to_owned()));
        let body = body.replace("BASE", &format!("https://localhost:{}", addr.port()));
        let len = body.len();
        let reply =
            format!("HTTP/1.1 {head}{JSON}Connection: close\r\nContent-Length: {len}\r\n\r\n");
        let body = if asked.starts_with("HEAD") { "" } else { &body };
        let _ = stream.write_all(format!("{reply}{body}").as_bytes()).await;
        let _ = stream.shutdown().await;
    }
}

fn directory(more: &str) -> (&'static str, String) {
    let mut body = "{".to_owned();
    for key in [
        "newNonce",
        "newAccount",
        "newOrder",
        "revokeCert",
        "keyChange",
    ] {
        let _ = write!(body, "\"{key}\": \"BASE/{key}\", ");
    }
    ("200 OK\r\n", format!("{body}{more}\"meta\": {{}}}}"))
}

fn certificate() -> CertificateDer<'static> {
    let mut params = CertificateParams::new(["t.example".to_owned()]).expect("a name");
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().expect("made");
    params.self_signed(&key).expect("made").der().clone()
}

#[tokio::test]
async fn an_authority_says_when_to_renew() {
    let dir = tempfile::tempdir().expect("a directory");
    let told = authority(dir.path(), |asked| match asked {
        "GET /dir" => Some(directory("\"renewalInfo\": \"BASE/renewal\", ")),
        _ => asked.starts_with("GET /renewal/").then(|| {
            let window = r#"{"suggestedWindow":
                {"start": "2027-01-15T08:00:00Z", "end": "2027-01-15T08:00:10Z"}}"#;
            ("200 OK\r\nRetry-After: 21600\r\n", window.to_owned())
        }),
    });
    let told = told
        .await
        .window(&certificate(), 0)
        .await
        .expect("answered");
    assert_eq!(told, Some((1_800_000_000, 1_800_000_010)));
    let silent = authority(dir.path(), |asked| {
        (asked == "GET /dir").then(|| directory(""))
    });
    let told = silent
        .await
        .window(&certificate(), 0)
        .await
        .expect("answered");
    assert_eq!(told, None);
}

#[tokio::test]
async fn a_limit_that_was_reached_is_told_with_its_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let ca = authority(dir.path(), |asked| match asked {
        "GET /dir" => Some(directory("")),
        "HEAD /newNonce" => Some(("200 OK\r\nReplay-Nonce: abc\r\n", String::new())),
        "POST /newOrder" => Some((
            "429 Too Many Requests\r\nRetry-After: 7200\r\n",
            r#"{"type": "urn:ietf:params:acme:error:rateLimited",
                "detail": "too many\nof t.example", "status": 429}"#
                .to_owned(),
        )),
        _ => None,
    });
    let name = "t.example".parse().expect("a name");
    let error = ca.await.obtain(&name, None, &Arc::default(), 0).await;
    let error = error.err().expect("refused");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7200)));
    assert_eq!(error.kind(), "refused by the authority: rateLimited");
    let text = error.to_string();
    assert!(text.contains("too many of t.example"), "{text}");
}

#[tokio::test]
async fn an_answer_without_end_and_a_stranger_are_not_listened_to() {
    let dir = tempfile::tempdir().expect("a directory");
    let name = "t.example".parse().expect("a name");
    let endless = authority(dir.path(), |_| Some(("200 OK\r\n", " ".repeat(2 << 20))));
    let error = endless.await.obtain(&name, None, &Arc::default(), 0).await;
    let error = error.err().expect("refused");
    assert!(error.to_string().contains("length limit"), "{error}");
    // Whose certificate rests on another root.
    let mut ca = authority(dir.path(), |_| Some(directory(""))).await;
    ca.roots = Roots::Usual;
    let error = ca.obtain(&name, None, &Arc::default(), 0).await;
    let error = swarm_peer::http::chain(&error.err().expect("refused"));
    assert!(error.contains("UnknownIssuer"), "{error}");
}

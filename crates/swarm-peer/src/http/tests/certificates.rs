//! Bad certificates are refused, by every way out.

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::*;
use crate::connector::fake::FakeNet;

const HOST: &str = "www.site.example";

/// One who signs.
struct Authority {
    params: CertificateParams,
    key: KeyPair,
    der: CertificateDer<'static>,
}

impl Authority {
    fn root(name: &str) -> Self {
        let params = authority(name);
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        Self { params, key, der }
    }

    /// Another, signed by this one.
    fn below(&self, params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let der = self.sign(&params, &key);
        Self { params, key, der }
    }

    fn sign(&self, params: &CertificateParams, key: &KeyPair) -> CertificateDer<'static> {
        let issuer = Issuer::from_params(&self.params, &self.key);
        params.signed_by(key, &issuer).unwrap().der().clone()
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

/// What a site would have, changed by `twist`.
fn leaf(names: &[&str], twist: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, HOST);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    twist(&mut params);
    params
}

/// A TLS server with this chain that answers every request; ends with the test's process.
fn serve(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> SocketAddr {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = provider.key_provider.load_private_key(key).unwrap();
    // The plain way checks the chain, and would not serve some of these.
    let chain = Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key)));
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(chain);
    let config = Arc::new(config);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut tls = rustls::StreamOwned::new(connection, stream);
            let mut request = [0; 4096];
            if tls.read(&mut request).is_ok_and(|len| len > 0) {
                let _ = tls.write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
                );
            }
        }
    });
    addr
}

/// Every way out, to `host` at that server: what each brought.
async fn ask(
    root: &CertificateDer<'static>,
    host: &str,
    server: SocketAddr,
) -> Vec<Result<StatusCode, HttpError>> {
    let network = Arc::new(FakeNet::default());
    network.name(host, &[&["93.184.216.34"]]);
    network.route("93.184.216.34:443", server);
    let connector = Connector::new(AddressPolicy::default(), SECOND).over(network);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let tls = tls()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = HttpClient::over(connector, tls);
    let url = format!("https://{host}/");
    let time = 5 * SECOND;
    let mut all = Vec::new();
    for trust in [Trust::CommandLine, Trust::Stranger] {
        let got = client.get(&url, 100, time, trust).await;
        let posted = client.post(&url, Bytes::new(), 100, time, trust).await;
        let put = client.put(&url, Bytes::new(), 100, time, trust).await;
        all.extend([got, posted, put].map(|answer| answer.map(|answer| answer.status)));
        let lane = client.lane(trust);
        let streamed = lane.get(&url, HeaderMap::new(), time).await;
        all.push(streamed.map(|answer| answer.status));
    }
    all
}

#[tokio::test]
async fn t31_bad_certificates_are_refused_by_every_way_out() {
    let root = Authority::root("root");
    let stranger = Authority::root("stranger");
    let key = KeyPair::generate().unwrap();
    let plain = leaf(&[HOST], |_| {});
    let signed = |params: &CertificateParams| vec![root.sign(params, &key)];
    let middle = root.below(authority("middle"));
    let (past, future) = (date_time_ymd(2001, 1, 1), date_time_ymd(2200, 1, 1));
    let mut old = authority("old");
    old.not_before = date_time_ymd(2000, 1, 1);
    old.not_after = past;
    let old = root.below(old);
    let mut narrow = authority("narrow");
    narrow.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName("other.example".into())],
        excluded_subtrees: Vec::new(),
    });
    let narrow = root.below(narrow);
    // A leaf that plays authority.
    let upstart = root.below(leaf(&["upstart.example"], |_| {}));
    let mut forged = root.sign(&plain, &key).to_vec();
    let last = forged.len() - 1;
    forged[last] ^= 1;

    let fine = [
        ("signed by the root", signed(&plain)),
        (
            "by way of an authority",
            vec![middle.sign(&plain, &key), middle.der.clone()],
        ),
        ("for a wildcard", signed(&leaf(&["*.site.example"], |_| {}))),
    ];
    for (what, chain) in fine {
        for answer in ask(&root.der, HOST, serve(chain, &key)).await {
            assert_eq!(answer.unwrap(), StatusCode::OK, "{what}");
        }
    }

    let unknown = || {
        let mut extension =
            CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999], vec![5, 0]);
        extension.set_criticality(true);
        extension
    };
    let bad = [
        ("expired", signed(&leaf(&[HOST], |p| p.not_after = past))),
        (
            "not yet valid",
            signed(&leaf(&[HOST], |p| p.not_before = future)),
        ),
        (
            "for another host",
            signed(&leaf(&["other.example"], |_| {})),
        ),
        (
            "for a host below",
            signed(&leaf(&["a.www.site.example"], |_| {})),
        ),
        (
            "for a wildcard below",
            signed(&leaf(&["*.www.site.example"], |_| {})),
        ),
        ("without names", signed(&leaf(&[], |_| {}))),
        ("for an address", signed(&leaf(&["93.184.216.34"], |_| {}))),
        (
            "self-signed",
            vec![plain.self_signed(&key).unwrap().der().clone()],
        ),
        (
            "of an unknown root",
            vec![stranger.sign(&plain, &key), stranger.der.clone()],
        ),
        (
            "without the authority between",
            vec![middle.sign(&plain, &key)],
        ),
        (
            "of an expired authority",
            vec![old.sign(&plain, &key), old.der.clone()],
        ),
        (
            "outside its authority's names",
            vec![narrow.sign(&plain, &key), narrow.der.clone()],
        ),
        (
            "signed by a leaf",
            vec![upstart.sign(&plain, &key), upstart.der.clone()],
        ),
        (
            "for clients only",
            signed(&leaf(&[HOST], |p| {
                p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            })),
        ),
        (
            "with an unknown critical extension",
            signed(&leaf(&[HOST], |p| {
                p.custom_extensions.push(unknown());
            })),
        ),
        (
            "with a forged signature",
            vec![CertificateDer::from(forged)],
        ),
    ];
    for (what, chain) in bad {
        for answer in ask(&root.der, HOST, serve(chain, &key)).await {
            assert!(
                matches!(&answer, Err(HttpError::Exchange { reason, .. }) if reason.contains("certificate")),
                "{what}: {answer:?}"
            );
        }
    }
}

/// The built-in roots are what releases trust: a private root is none of them.
#[tokio::test]
async fn t31_a_release_trusts_no_private_root() {
    let root = Authority::root("root");
    let key = KeyPair::generate().unwrap();
    let server = serve(vec![root.sign(&leaf(&["localhost"], |_| {}), &key)], &key);
    let url = format!("https://localhost:{}/", server.port());
    let refused = client()
        .get(&url, 100, 5 * SECOND, Trust::CommandLine)
        .await;
    assert!(
        matches!(&refused, Err(HttpError::Exchange { reason, .. }) if reason.contains("certificate")),
        "{refused:?}"
    );
}

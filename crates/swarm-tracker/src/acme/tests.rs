mod found;

use std::path::Path;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;

use super::*;

const NOW: Moment = Moment {
    elapsed: std::time::Duration::ZERO,
    unix: 1_800_000_000,
};

/// Key and certificate of a name, in PEM.
pub(crate) fn made(name: &CertificateName, from: i64, until: i64) -> String {
    let mut params = CertificateParams::new([name.as_str().to_owned()]).expect("a name");
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + std::time::Duration::from_secs(from.unsigned_abs());
    params.not_after = epoch + std::time::Duration::from_secs(until.unsigned_abs());
    let key = KeyPair::generate().expect("made");
    let certificate = params.self_signed(&key).expect("made");
    format!("{}{}", key.serialize_pem(), certificate.pem())
}

/// Those of a tracker with these names, in a directory.
pub(crate) fn certificates(dir: &Path, names: &[&str]) -> Arc<Certificates> {
    let acme = AcmeConfig {
        directory: "https://ca.example/dir".to_owned(),
        names: names.iter().map(|n| n.parse().expect("a name")).collect(),
        sites: true,
        dir: Some(dir.to_owned()),
        ..AcmeConfig::default()
    };
    let config = TrackerConfig::default();
    Arc::new(Certificates::open(&acme, &config, None, NOW).expect("opened"))
}

/// Has one hold a certificate of a name, which is a site's if it is not the tracker's.
pub(crate) fn hold(certificates: &Certificates, name: &str) -> CertificateDer<'static> {
    let name: CertificateName = name.parse().expect("a name");
    certificates.want(&name, NOW).expect("room");
    let pem = made(&name, 1_700_000_000, 2_000_000_000);
    certificates
        .store
        .save(&name, pem.as_bytes())
        .expect("kept");
    certificates.look(&name);
    certificates.of(&name).expect("held").cert[0].clone()
}

/// Has the authority refuse a name.
pub(crate) fn fail(certificates: &Certificates, name: &str) {
    let name = name.parse().expect("a name");
    let why = "refused by the authority: dns".to_owned();
    certificates.schedule().failed(&name, why, None, NOW, 0.0);
}

#[test]
fn what_is_on_disk_is_there_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = hold(&certificates(dir.path(), &["t.example"]), "t.example");
    let again = certificates(dir.path(), &["t.example"]);
    assert_eq!(again.own().expect("held").cert[0], first);
    assert_eq!(again.summary(), (1, Some(2_000_000_000)));
}

#[test]
fn a_site_that_no_longer_agrees_is_no_longer_shown() {
    let dir = tempfile::tempdir().expect("a directory");
    let certificates = certificates(dir.path(), &["t.example"]);
    let name: CertificateName = "site.example".parse().expect("a name");
    let first = hold(&certificates, "site.example");
    certificates.unwant(&name);
    assert!(certificates.of(&name).is_none());
    assert_eq!(certificates.status().0.len(), 1);
    // What it had is there when it comes back; the operator's own names are not its to give up.
    certificates.want(&name, NOW).expect("room");
    assert_eq!(certificates.schedule().unread(), Some(name.clone()));
    certificates.look(&name);
    assert_eq!(certificates.of(&name).expect("held").cert[0], first);
    hold(&certificates, "t.example");
    certificates.unwant(&"t.example".parse().expect("a name"));
    assert!(certificates.own().is_some());
}

#[test]
fn nobody_asks_for_sites_where_the_operator_does_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut acme = AcmeConfig {
        names: vec!["t.example".parse().expect("a name")],
        dir: Some(dir.path().to_owned()),
        ..AcmeConfig::default()
    };
    let mut config = TrackerConfig::default();
    for site in ["home.example", "home.example:8080", "192.0.2.1"] {
        let site = swarm_proto::manifest::SiteName::parse(site).expect("a site");
        let home = "https://origin.example".parse().expect("a home");
        config.homes.insert(site, home);
    }
    let names = |acme: &AcmeConfig| {
        let opened = Certificates::open(acme, &config, None, NOW).expect("opened");
        let site = "site.example".parse().expect("a name");
        let names: Vec<_> = opened.status().0.into_iter().map(|s| s.name).collect();
        (names, opened.want(&site, NOW))
    };
    let refused = Err(WantRefused::NotForSites);
    assert_eq!(names(&acme), (vec!["t.example".to_owned()], refused));
    acme.sites = true;
    let both = vec!["home.example".to_owned(), "t.example".to_owned()];
    assert_eq!(names(&acme), (both, Ok(())));
}

#[test]
fn those_in_trouble_are_shown_first_and_only_so_many() {
    let dir = tempfile::tempdir().expect("a directory");
    let certificates = certificates(dir.path(), &["t.example"]);
    for n in 0..130 {
        let name = format!("s{n}.example").parse().expect("a name");
        certificates.want(&name, NOW).expect("room");
    }
    fail(&certificates, "s77.example");
    let (shown, left_off) = certificates.status();
    assert_eq!((shown.len(), left_off), (100, 31));
    assert_eq!(
        (shown[0].name.as_str(), &shown[0].error),
        (
            "s77.example",
            &Some("refused by the authority: dns".to_owned())
        )
    );
}

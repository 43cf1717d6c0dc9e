//! A site with real keys and signatures, for unit and integration tests alike.

use swarm_proto::id::{Digest, InfoHashV1, InfoHashV2, SwarmId};
use swarm_proto::manifest::{
    Alarm, BundleEntry, FileEntry, KeySet, PublicKey, SecretKey, SignedAlarm, SignedKeySet,
    SignedManifest, SiteManifest, SiteName, SitePath, SiteRecord,
};

/// A site and all its secrets.
pub(crate) struct TestSite {
    pub(crate) name: SiteName,
    root: SecretKey,
    publish: SecretKey,
    alarm: SecretKey,
}

/// The ids of bundle `n` of any test site.
pub(crate) fn v1(n: u8) -> SwarmId {
    SwarmId::new([n; 20])
}

/// As [`v1`], the other half of the hybrid.
pub(crate) fn v2(n: u8) -> SwarmId {
    SwarmId::new([n ^ 0x80; 20])
}

impl TestSite {
    pub(crate) fn new(name: &str, seed: u8) -> Self {
        let key = |role: u8| SecretKey::new([seed.wrapping_mul(3).wrapping_add(role); 32]);
        Self {
            name: SiteName::parse(name).expect("a site name"),
            root: key(1),
            publish: key(2),
            alarm: key(3),
        }
    }

    pub(crate) fn root(&self) -> PublicKey {
        self.root.public()
    }

    pub(crate) fn manifest(&self, sequence: u64, now: u64, files: &[(&str, u8)]) -> SiteManifest {
        let mut numbers: Vec<u8> = files.iter().map(|(_, bundle)| *bundle).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let bundles = numbers.iter().map(|n| BundleEntry {
            v1: InfoHashV1::new([*n; 20]),
            v2: InfoHashV2::new([*n ^ 0x80; 32]),
            alias: None,
            length: 1,
            trackers: Vec::new(),
        });
        let files = files.iter().map(|(path, bundle)| {
            let at = numbers.iter().position(|n| n == bundle);
            let entry = FileEntry {
                bundle: at.and_then(|at| u32::try_from(at).ok()).expect("listed"),
                file: 0,
                length: 1,
                digest: Digest::of(path.as_bytes()),
                media_type: match path.ends_with(".js") {
                    true => "text/javascript; charset=utf-8".into(),
                    false => "text/html".into(),
                },
                cache_secs: 60,
                modified: now,
                variants: Vec::new(),
            };
            (SitePath::from_decoded(path).expect("a path"), entry)
        });
        SiteManifest {
            site: self.name.clone(),
            sequence,
            created: now,
            expires: now + 86_400,
            stamped: false,
            bundles: bundles.collect(),
            files: files.collect(),
        }
    }

    /// A record whose `files` are paths and the numbers of their bundles.
    pub(crate) fn record(&self, sequence: u64, now: u64, files: &[(&str, u8)]) -> Vec<u8> {
        self.sign(&self.manifest(sequence, now, files))
    }

    /// The record of any manifest.
    pub(crate) fn sign(&self, manifest: &SiteManifest) -> Vec<u8> {
        let keys = KeySet {
            site: self.name.clone(),
            sequence: 1,
            expires: 4_000_000_000,
            root: vec![self.root.public()],
            threshold: 1,
            publish: vec![self.publish.public()],
            alarm: vec![self.alarm.public()],
        };
        SiteRecord {
            keys: SignedKeySet::first(&keys, &[&self.root]).expect("good keys"),
            manifest: SignedManifest::sign(manifest, &self.publish).expect("a good manifest"),
            stamp: None,
        }
        .to_bytes()
    }

    pub(crate) fn alarm(&self, issued: u64, until: u64) -> Vec<u8> {
        self.alarm_signed_by(&self.alarm, issued, until)
    }

    /// An alarm that somebody else has signed.
    #[allow(dead_code, reason = "not every test binary forges")]
    pub(crate) fn forged_alarm(&self, issued: u64, until: u64) -> Vec<u8> {
        self.alarm_signed_by(&SecretKey::new([99; 32]), issued, until)
    }

    fn alarm_signed_by(&self, key: &SecretKey, issued: u64, until: u64) -> Vec<u8> {
        let alarm = Alarm {
            site: self.name.clone(),
            issued,
            until,
            level: 1,
            home: format!("http://{}/", self.name),
            manifest_sequence: 1,
        };
        SignedAlarm::sign(&alarm, key)
            .expect("a good alarm")
            .to_bytes()
    }
}

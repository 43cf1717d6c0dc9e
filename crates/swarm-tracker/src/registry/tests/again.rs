//! A visitor who comes back.

use super::*;

/// The port of the bridge to which a visitor of the front page is sent.
fn sent_to(registry: &mut Registry, site: &TestSite, secs: u64) -> u16 {
    match route(registry, site, secs, "/") {
        Route::Bridge { bridge, .. } => {
            let port = bridge.base.rsplit_once(':').expect("an address and port").1;
            port.parse().expect("a port")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_comes_back_at_once_is_sent_to_another_bridge_while_there_is_one() {
    let (mut registry, site) = with_site();
    for n in 0..3 {
        announce(&mut registry, 0, &with_bridge(v2(1), 2001 + n, 0, 8081 + n));
    }
    let mut last = sent_to(&mut registry, &site, 1);
    for _ in 0..200 {
        let next = sent_to(&mut registry, &site, 2);
        assert_ne!(next, last);
        last = next;
    }
    for n in 1..3 {
        let stopped = with_event(v1(1), 2001 + n, 0, AnnounceEvent::Stopped);
        announce(&mut registry, 3, &stopped);
    }
    assert_eq!(sent_to(&mut registry, &site, 3), 8081);
    assert_eq!(sent_to(&mut registry, &site, 3), 8081, "rather than home");
}

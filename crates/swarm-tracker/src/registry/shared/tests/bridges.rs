//! Bridges that announce to one tracker, and their visitors at both.

use super::*;

#[test]
fn a_bridge_proven_at_one_gets_visitors_of_the_other_which_neither_calls_nor_audits_it() {
    let (mut one, mut two, _) = two();
    let bridge = bridge_at(8080);
    assert_eq!(offer(&mut one, 0, &bridge, |_| {}), None);
    pass(&mut one, &mut two, 0);
    assert_eq!(visit(&mut two, 0), None, "not proven yet");
    assert_eq!(prove(&mut one, 1, &bridge), 1);
    pass(&mut one, &mut two, 1);
    assert_eq!(visit(&mut two, 1), Some(bridge.address));
    for secs in (30..600).step_by(30) {
        offer(&mut one, secs, &bridge, |_| {});
        pass(&mut one, &mut two, secs);
        two.sweep_bridges(at(secs));
        assert_eq!(prove(&mut two, secs, &bridge), 0);
        assert_eq!(visit(&mut two, secs), Some(bridge.address), "{secs}");
        assert!(two.next_audit(at(secs)).is_none());
        pass(&mut two, &mut one, secs);
    }
    assert!(next_audit(&mut one, 600).is_some(), "its own tracker does");
    // Nobody says so any more.
    two.sweep_bridges(at(646));
    assert_eq!(visit(&mut two, 646), None);
    assert_eq!(two.totals().bridges, 0);
}

#[test]
fn a_bridge_whose_tracker_is_gone_is_taken_over_without_a_gap() {
    let (mut one, mut two, _) = two();
    let bridge = bridge_at(8080);
    offer(&mut one, 0, &bridge, |_| {});
    prove(&mut one, 0, &bridge);
    pass(&mut one, &mut two, 0);
    // The first is never heard of again.
    let mut calls = 0;
    for secs in 30..1400 {
        if secs % 30 == 0 {
            assert_eq!(offer(&mut two, secs, &bridge, |_| {}), None);
        }
        calls += prove(&mut two, secs, &bridge);
        two.sweep_bridges(at(secs));
        assert_eq!(visit(&mut two, secs), Some(bridge.address), "{secs}");
    }
    assert!(calls >= 2, "and called from now on: {calls}");
    assert!(next_audit(&mut two, 1400).is_some(), "and looked at");
}

#[test]
fn a_tracker_leaves_a_bridge_alone_that_announces_to_another_now() {
    let (mut one, mut two, _) = two();
    let bridge = bridge_at(8080);
    offer(&mut one, 0, &bridge, |_| {});
    prove(&mut one, 0, &bridge);
    pass(&mut one, &mut two, 0);
    for secs in 30..1500 {
        if secs % 30 == 0 {
            offer(&mut two, secs, &bridge, |_| {});
        }
        prove(&mut two, secs, &bridge);
        pass(&mut two, &mut one, secs);
        one.sweep_bridges(at(secs));
        assert_eq!(visit(&mut one, secs), Some(bridge.address), "{secs}");
        // It would not answer: it announces to another name.
        assert_eq!(prove(&mut one, secs, &bridge), 0, "{secs}");
        if secs > 80 {
            assert!(one.next_audit(at(secs)).is_none(), "{secs}");
        }
    }
}

#[test]
fn a_lease_ends_when_both_have_sent_its_visitors() {
    let (mut one, mut two, _) = two();
    let bridge = bridge_at(8080);
    offer(&mut one, 0, &bridge, |offer| offer.hits = Some(10));
    prove(&mut one, 0, &bridge);
    pass(&mut one, &mut two, 0);
    let mut sent = 0;
    for _ in 0..20 {
        for (here, there) in [(true, false), (false, true)] {
            let (from, to) = match (here, there) {
                (true, _) => (&mut one, &mut two),
                _ => (&mut two, &mut one),
            };
            sent += usize::from(visit(from, 1).is_some());
            pass(from, to, 1);
        }
    }
    assert_eq!(sent, 10);
    // A new count begins after what was told before it.
    offer(&mut one, 2, &bridge, |offer| offer.hits = Some(9));
    assert!(visit(&mut one, 2).is_some());
    offer(&mut one, 2, &bridge, |offer| offer.hits = Some(3));
    assert!(visit(&mut one, 2).is_some());
    pass(&mut one, &mut two, 2);
    assert_eq!(visits_until_home(&mut two, 2), 2);
}

#[test]
fn an_older_offer_of_another_bundle_brings_no_older_lease() {
    let (mut one, mut two, _) = two();
    let bridge = bridge_at(8080);
    let other = AnnounceRequest {
        bridge: Some(BridgeOffer {
            key: Some(bridge.key.public()),
            hits: Some(100),
            ..BridgeOffer::new(bridge.address.port())
        }),
        left: Some(0),
        ..AnnounceRequest::new(v1(2), PeerId::new([1; 20]), bridge.address.port())
    };
    let via = Via::Http(Some("tracker.example"));
    let reply = one.announce(at(0), bridge.address.ip(), &other, via);
    reply.expect("accepted");
    let told = one.take_changes();
    offer(&mut two, 10, &bridge, |offer| offer.hits = Some(3));
    prove(&mut two, 10, &bridge);
    hear(&mut two, 20, 20, &told);
    assert_eq!(visits_until_home(&mut two, 20), 3);
}

#[test]
fn what_is_read_late_undoes_nothing_that_happened_since() {
    let (mut one, _) = sites_tracker();
    let (mut two, _) = sites_tracker_with(|config| {
        config.volunteers.renew_interval = Duration::from_secs(30);
    });
    let bridge = bridge_at(8080);
    for tracker in [&mut one, &mut two] {
        offer(tracker, 0, &bridge, |offer| offer.hits = Some(50));
        prove(tracker, 0, &bridge);
    }
    for _ in 0..9 {
        assert_eq!(visit(&mut one, 1), Some(bridge.address));
    }
    let (secs, audit) = next_audit(&mut one, 2).expect("due");
    one.finish_audit(at(secs), &audit, Finding::Shut, 0);
    let old = one.take_changes();
    assert!(old.others.contains(&Change::Doubted(bridge.id())));
    // Since then the volunteer has told the other what remains, and proven itself there.
    let since = secs + 40;
    assert_eq!(prove(&mut two, since, &bridge), 1);
    offer(&mut two, since, &bridge, |offer| offer.hits = Some(41));
    hear(&mut two, since + 20, since + 20 - secs, &old);
    assert_eq!(visits_until_home(&mut two, since + 20), 41);
}

#[test]
fn what_others_send_there_is_strain_and_grows_old() {
    let (mut one, mut two, _) = two();
    let bridge = bridge_at(8080);
    // The least rate there is: full after some thirty visitors.
    offer(&mut one, 0, &bridge, |offer| offer.rate = Some(1));
    prove(&mut one, 0, &bridge);
    pass(&mut one, &mut two, 0);
    let sent = visits_until_home(&mut one, 1);
    assert!((20..40).contains(&sent), "{sent}");
    let visits = one.take_changes();
    hear(&mut two, 1, 0, &visits);
    assert_eq!(visit(&mut two, 1), None, "full there too");
    let (mut three, _) = sites_tracker();
    offer(&mut three, 0, &bridge, |offer| offer.rate = Some(1));
    prove(&mut three, 0, &bridge);
    hear(&mut three, 1, 10, &visits);
    let more = visits_until_home(&mut three, 1);
    assert!(
        (sent / 2 - 2..=sent / 2 + 2).contains(&more),
        "half is forgotten: {more}"
    );
}

#[test]
fn own_doubts_outweigh_the_word_of_another() {
    let (mut one, mut two, _) = two();
    let bridge = bridge_at(8080);
    for tracker in [&mut one, &mut two] {
        offer(tracker, 0, &bridge, |_| {});
        prove(tracker, 0, &bridge);
    }
    pass(&mut one, &mut two, 0);
    let (secs, audit) = next_audit(&mut two, 1).expect("due");
    let verdict = two.finish_audit(at(secs), &audit, Finding::Shut, 0);
    assert_eq!(verdict, Verdict::Unlisted);
    offer(&mut one, secs, &bridge, |_| {});
    pass(&mut one, &mut two, secs);
    assert_eq!(visit(&mut two, secs), None, "found shut here a moment ago");
    pass(&mut two, &mut one, secs);
    assert_eq!(visit(&mut one, secs), None, "told there");
    // Until it has proven itself again, to either.
    assert_eq!(prove(&mut one, secs + 60, &bridge), 1);
    assert_eq!(visit(&mut one, secs + 60), Some(bridge.address));
}

#[test]
fn a_bridge_that_one_calls_in_vain_goes_where_only_that_one_vouched() {
    let (mut one, mut two, _) = two();
    let (mut three, _) = sites_tracker();
    let bridge = bridge_at(8080);
    for tracker in [&mut one, &mut two] {
        offer(tracker, 0, &bridge, |_| {});
        prove(tracker, 0, &bridge);
    }
    let said = one.take_changes();
    hear(&mut two, 0, 0, &said);
    hear(&mut three, 0, 0, &said);
    let call = (1..1000).find_map(|secs| {
        if secs % 30 == 0 {
            offer(&mut one, secs, &bridge, |_| {});
            offer(&mut two, secs, &bridge, |_| {});
            pass(&mut one, &mut three, secs);
        }
        Some((secs, one.next_call(at(secs), [9; 32])?))
    });
    let (secs, call) = call.expect("renewed");
    one.finish_call(at(secs), &call, Err(NoAnswer::Refused));
    let said = one.take_changes();
    assert_eq!(said.others, [Change::Unproven(bridge.id())]);
    hear(&mut two, secs, 0, &said);
    hear(&mut three, secs, 0, &said);
    assert_eq!(visit(&mut three, secs), None);
    assert_eq!(visit(&mut two, secs), Some(bridge.address), "asked itself");
}

#[test]
fn an_eviction_holds_everywhere_until_the_site_vouches_for_what_was_shown() {
    let (mut one, mut two, site) = two();
    let bridge = bridge_at(8080);
    offer(&mut one, 0, &bridge, |_| {});
    prove(&mut one, 0, &bridge);
    pass(&mut one, &mut two, 0);
    let (secs, audit) = next_audit(&mut one, 1).expect("due");
    let path = SitePath::parse("/a.png").expect("a path");
    let mut newer = site.manifest(2, UNIX, FILES);
    let file = newer.files.get_mut(&path).expect("listed");
    file.digest = swarm_proto::id::Digest::of(b"newer");
    let shown = Shown::of(file);
    let found = Finding::Wrong(path, shown);
    let verdict = one.finish_audit(at(secs), &audit, found, 9);
    assert_eq!(verdict, Verdict::Evicted);
    let told = one.take_changes();
    assert_eq!(told.others.len(), 3, "{:?}", told.others);
    hear(&mut two, secs, 0, &told);
    assert_eq!(visit(&mut two, secs), None);
    assert_eq!(two.totals().bridges, 0);
    let refused = offer(&mut two, secs, &bridge, |_| {}).expect("refused");
    assert!(refused.contains("wrong bytes"), "{refused}");
    // New ones at that place, and those others have taken.
    let neighbour = bridge_at(8081);
    assert!(offer(&mut two, secs, &neighbour, |_| {}).is_some());
    let (mut four, _) = sites_tracker();
    offer(&mut four, secs, &neighbour, |_| {});
    prove(&mut four, secs, &neighbour);
    pass(&mut four, &mut two, secs);
    assert_eq!(visit(&mut two, secs), None);

    // It had what the site published just then.
    let (mut five, _) = sites_tracker();
    for tracker in [&mut two, &mut five] {
        let (root, trust) = tracker.anchor(&site.name).expect("pinned");
        let record = site.sign(&newer).into();
        let checked = check_record(root, &site.name, trust.as_ref(), record, UNIX);
        tracker
            .install(at(secs), checked.expect("good"))
            .expect("free");
    }
    offer(&mut five, secs, &bridge, |_| {});
    prove(&mut five, secs, &bridge);
    hear(&mut five, secs, 0, &told);
    assert_eq!(visit(&mut five, secs), Some(bridge.address), "vouched for");
    for tracker in [&mut two, &mut five] {
        assert_eq!(offer(tracker, secs + 1, &bridge, |_| {}), None);
    }
    // Otherwise it ends with its time.
    let (mut six, _) = sites_tracker();
    hear(&mut six, secs, 0, &told);
    let six_hours = 6 * 3600;
    assert!(offer(&mut six, secs + six_hours - 1, &bridge, |_| {}).is_some());
    assert_eq!(offer(&mut six, secs + six_hours + 1, &bridge, |_| {}), None);
    // And is of no use when it is heard of after that.
    let (mut seven, _) = sites_tracker();
    hear(&mut seven, six_hours + secs, six_hours, &told);
    assert_eq!(offer(&mut seven, six_hours + secs, &bridge, |_| {}), None);
}

#[test]
fn offers_are_taken_back_everywhere_unless_they_were_made_again() {
    let (mut one, mut two, _) = two();
    let bridge = bridge_at(8080);
    offer(&mut one, 0, &bridge, |_| {});
    prove(&mut one, 0, &bridge);
    pass(&mut one, &mut two, 0);
    stop(&mut one, 20, 8080);
    let told = one.take_changes();
    let withdrawn = Change::Withdrawn {
        swarm: v1(1),
        peer: bridge.address,
    };
    assert_eq!(told.others, [withdrawn]);
    let (mut three, _) = sites_tracker();
    offer(&mut three, 40, &bridge, |_| {});
    prove(&mut three, 40, &bridge);
    hear(&mut two, 20, 0, &told);
    hear(&mut three, 41, 21, &told);
    assert_eq!(visit(&mut two, 20), None);
    assert_eq!(visit(&mut three, 41), Some(bridge.address), "made since");
}

#[test]
fn names_that_an_operator_has_not_allowed_are_not_taken_from_others() {
    let (mut one, _) = sites_tracker();
    let mut two = sites_tracker().0;
    two.config.bridge_domains = Vec::new();
    let bridge = bridge_at(8080);
    offer(&mut one, 0, &bridge, |offer| {
        offer.domain = Some("bridges.example".into());
    });
    prove(&mut one, 0, &bridge);
    pass(&mut one, &mut two, 0);
    let site = SiteName::parse("example.org").expect("a name");
    let domain = |registry: &Registry| registry.bridges(at(1), &site, OTHER)[0].domain.clone();
    assert_eq!(domain(&one).as_deref(), Some("bridges.example"));
    assert_eq!(domain(&two), None);
}

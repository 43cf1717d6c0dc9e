use super::*;

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Callers who say who they are, one after the other; those that were let in.
fn come(places: &Arc<Places>, addrs: impl IntoIterator<Item = String>) -> Vec<(String, Place)> {
    let entered = addrs.into_iter().filter_map(|text| {
        let place = places.enter(addr(&text), Way::In)?;
        place.settle().then_some((text, place))
    });
    entered.collect()
}

fn kept(peers: &[(String, Place)]) -> usize {
    let kept = peers.iter().filter(|(_, place)| !place.lost.is_cancelled());
    kept.count()
}

#[test]
fn t22_no_network_keeps_others_out_of_the_node() {
    let places = Places::new(20);
    let crowd = come(
        &places,
        (0..500).map(|n| format!("9.8.{}.{}:1", n / 250, n % 250)),
    );
    assert_eq!(crowd.len(), 20, "a network that is alone has all places");
    let others = come(&places, (0..10).map(|n| format!("60.{n}.1.1:1")));
    assert_eq!((kept(&crowd), kept(&others)), (10, 10));
    // Neither the crowd nor a second one takes more than its share.
    assert!(come(&places, (0..50).map(|n| format!("9.8.7.{n}:1"))).is_empty());
    let second = come(&places, (0..50).map(|n| format!("7.7.7.{n}:1")));
    assert_eq!((kept(&crowd), kept(&second), kept(&others)), (5, 5, 10));
    // What is given back is for anybody.
    drop(second);
    let again = come(&places, (0..50).map(|n| format!("9.8.7.{n}:1")));
    assert_eq!((again.len(), kept(&crowd)), (5, 5));
}

#[test]
fn t22_nobody_makes_way_for_a_peer_that_has_not_said_who_it_is() {
    let places = Places::new(80);
    let crowd = come(&places, (0..80).map(|n| format!("9.8.7.{n}:1")));
    let silent: Vec<_> = (0..50)
        .filter_map(|n| places.enter(addr(&format!("60.{n}.1.1:1")), Way::In))
        .collect();
    assert_eq!((silent.len(), kept(&crowd)), (TRIALS_MAX, 80));
    // They keep our calls from nothing.
    let called = places.enter(addr("61.1.1.1:1"), Way::Out).unwrap();
    assert!(called.settle());
    assert_eq!(kept(&crowd), 79);
    drop(silent);
    assert!(places.enter(addr("60.1.1.1:1"), Way::In).is_some());
}

#[test]
fn t22_who_sends_least_yields_first_and_the_operators_peers_never() {
    let places = Places::new(6);
    let crowd = come(&places, (0..6).map(|n| format!("9.8.7.{n}:1")));
    for (rate, (_, place)) in [50.0, 0.0, 0.0, 0.0, 10.0, 0.0].into_iter().zip(&crowd) {
        place.brings(rate);
    }
    crowd[5].1.keep();
    let lost = |crowd: &[(String, Place)]| -> Vec<usize> {
        let all = crowd.iter().enumerate();
        let lost = all.filter(|(_, (_, place))| place.lost.is_cancelled());
        lost.map(|(at, _)| at).collect()
    };
    let mut others = come(&places, ["60.1.1.1:1".to_owned()]);
    assert_eq!(lost(&crowd), [3], "of those that send nothing the youngest");
    others.extend(come(&places, ["60.2.1.1:1".to_owned()]));
    assert_eq!(lost(&crowd), [2, 3]);
    others.extend(come(&places, ["60.3.1.1:1".to_owned()]));
    assert_eq!(lost(&crowd), [1, 2, 3]);
    others.extend(come(&places, ["60.4.1.1:1".to_owned()]));
    assert_eq!(lost(&crowd), [1, 2, 3, 4]);
    // The operator's counts, but stays; then all have one each.
    others.extend(come(&places, ["60.5.1.1:1".to_owned()]));
    assert_eq!(lost(&crowd), [0, 1, 2, 3, 4]);
    assert!(come(&places, ["60.6.1.1:1".to_owned()]).is_empty());
    assert_eq!(kept(&others), 5);
}

#[test]
fn a_place_that_was_lost_cannot_be_settled() {
    let places = Places::new(2);
    let dialling: Vec<_> = (0..2)
        .map(|n| {
            places
                .enter(addr(&format!("9.8.7.{n}:1")), Way::Out)
                .unwrap()
        })
        .collect();
    let caller = come(&places, ["60.1.1.1:1".to_owned()]);
    assert_eq!(caller.len(), 1);
    assert!(dialling[0].settle() && !dialling[1].settle());
}

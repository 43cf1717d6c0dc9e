//! Nesting bombs, on a thread with little stack.

use std::time::{Duration, Instant};

use super::*;

/// Runs on a thread of 64 KiB stack; overflow there would abort the whole test.
fn on_a_small_stack(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new()
        .stack_size(64 * 1024)
        .spawn(test)
        .unwrap();
    thread.join().unwrap();
}

#[test]
fn nesting_bombs_are_refused_at_once_on_a_small_stack() {
    for times in [65, 10_000, 1_000_000] {
        for unit in ["l", "d1:a", "ld1:a", "d1:al"] {
            for rules in [Rules::NETWORK, Rules::SIGNED, Rules::METAINFO] {
                let open = unit.repeat(times);
                let containers = times * unit.matches(['l', 'd']).count();
                on_a_small_stack(move || {
                    let start = Instant::now();
                    let result = decode(open.as_bytes(), &rules);
                    // 10 ms is the promise; the rest is for a busy machine.
                    assert!(start.elapsed() < Duration::from_millis(250));
                    let expected = if containers > rules.depth_max {
                        BencodeError::Depth {
                            max: rules.depth_max,
                        }
                    } else {
                        BencodeError::Truncated
                    };
                    assert_eq!(result, Err(expected));
                });
            }
        }
    }
}

#[test]
fn values_of_the_greatest_depth_are_read_and_compared_on_a_small_stack() {
    for (open, close) in [("l", "e"), ("d0:", "e")] {
        for rules in [Rules::NETWORK, Rules::SIGNED] {
            let depth = rules.depth_max;
            let input = format!(
                "{}{}{}",
                open.repeat(depth - 1),
                "le",
                close.repeat(depth - 1)
            );
            on_a_small_stack(move || {
                let value = decode(input.as_bytes(), &rules).unwrap();
                assert_eq!(value, decode(input.as_bytes(), &Rules::METAINFO).unwrap());
                let deeper = format!("l{input}e");
                let error = decode(deeper.as_bytes(), &rules).unwrap_err();
                assert_eq!(error, BencodeError::Depth { max: depth });
            });
        }
    }
    // Metainfo nests deeper, still within reach of a small stack.
    let depth = Rules::METAINFO.depth_max;
    let input = format!("{}{}", "l".repeat(depth), "e".repeat(depth));
    on_a_small_stack(move || assert!(decode(input.as_bytes(), &Rules::METAINFO).is_ok()));
}

#[test]
fn every_depth_of_the_reader_can_be_written() {
    let depth = Rules::METAINFO.depth_max;
    let input = format!("{}{}", "l".repeat(depth), "e".repeat(depth));
    let value = decode(input.as_bytes(), &Rules::METAINFO).unwrap();
    assert_eq!(Item::from(&value).to_bytes(), input.as_bytes());
}

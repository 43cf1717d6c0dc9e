//! What waits to be sent on one socket: so much and no more.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Bytes that may wait: the offers of some fifty peers, or of one announce at its longest. Whoever
/// is further behind is not reading.
const WAITING_LEN_MAX: usize = 64 * 1024;

/// Messages in order; closed for good by the first that finds no room.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<String>,
    len: usize,
    overflown: bool,
}

impl Outbox {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a message, or closes the box.
    pub(super) fn put(&self, message: String) {
        let mut waiting = self.waiting();
        if waiting.len + message.len() > WAITING_LEN_MAX {
            waiting.overflown = true;
            // All is lost anyway.
            (waiting.messages, waiting.len) = (VecDeque::new(), 0);
        } else if !waiting.overflown {
            waiting.len += message.len();
            waiting.messages.push_back(message);
        }
        drop(waiting);
        self.changed.notify_one();
    }

    /// The next message, once there is one; `None` if the box is closed. One task waits at a time,
    /// here or for [`overflow`](Self::overflow).
    pub(super) async fn next(&self) -> Option<String> {
        loop {
            {
                let mut waiting = self.waiting();
                if waiting.overflown {
                    return None;
                }
                if let Some(message) = waiting.messages.pop_front() {
                    waiting.len -= message.len();
                    if waiting.messages.is_empty() {
                        waiting.messages = VecDeque::new();
                    }
                    return Some(message);
                }
            }
            self.changed.notified().await;
        }
    }

    /// Waits until the box is closed.
    pub(super) async fn overflow(&self) {
        while !self.waiting().overflown {
            self.changed.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_come_out_in_order_and_what_is_sent_makes_room() {
        let outbox = Outbox::default();
        for round in 0..100 {
            let text = round.to_string().repeat(WAITING_LEN_MAX / 4);
            outbox.put(text.clone());
            outbox.put("x".into());
            assert_eq!(outbox.next().await, Some(text));
            assert_eq!(outbox.next().await.as_deref(), Some("x"));
        }
    }

    #[tokio::test]
    async fn t19_a_box_that_runs_over_is_closed_and_empty() {
        let outbox = Outbox::default();
        let part = "x".repeat(WAITING_LEN_MAX / 8);
        for _ in 0..8 {
            outbox.put(part.clone());
        }
        assert_eq!(outbox.waiting().messages.len(), 8, "full, and no more");
        outbox.put("y".into());
        outbox.put("z".into());
        assert!(outbox.waiting().overflown);
        outbox.overflow().await;
        assert_eq!(outbox.next().await, None);
        assert_eq!(outbox.waiting().messages.capacity(), 0);
    }
}

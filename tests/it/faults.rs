//! What breaks without anybody's ill will: disks, clocks, peers, trackers.

mod clock;
mod disk;
mod peers;
mod state;

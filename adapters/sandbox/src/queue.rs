//! A queue of packets between the engine and a sandbox's program, which either of them can empty.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::{sys, wire};

/// Packets for a program, in order. The program takes the next one with a read of descriptor 4,
/// which has no other use; until it has, the engine can take it back. So it is the kernel that says
/// of each packet, once and for all, who has it: also of a program that was killed meanwhile.
#[derive(Debug)]
pub struct Queue {
    ours: OwnedFd,
    /// The program's end, which stays open here as well.
    inside: OwnedFd,
}

impl Queue {
    /// No packet is longer. A program reads with a buffer of at least this size.
    pub const PACKET_BYTES_MAX: usize = 64 << 10;

    pub(crate) fn new() -> io::Result<Self> {
        let (ours, inside) = wire::pair()?;
        // What the program finds empty it does not sleep in; it has two descriptors to wait for.
        sys::set_nonblocking(&inside)?;
        Ok(Self { ours, inside })
    }

    pub(crate) fn inside(&self) -> BorrowedFd<'_> {
        self.inside.as_fd()
    }

    /// Puts a packet behind the others; `false` when there is no room for it.
    ///
    /// # Errors
    /// When the program shut its end down, or the packet is empty or too long.
    pub fn put(&self, packet: &[u8]) -> io::Result<bool> {
        if packet.is_empty() || packet.len() > Self::PACKET_BYTES_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        match sys::send_now(&self.ours, packet) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes back every packet that the program has not taken, and gives the beginning of each, of at
    /// most `N` bytes. The program may take some in between, so any of them can be missing.
    ///
    /// A program that reads the same end meanwhile, into memory that is slow to come, makes this wait.
    #[must_use]
    pub fn take_back<const N: usize>(&self) -> Vec<Vec<u8>> {
        let mut taken = Vec::new();
        let mut beginning = [0; N];
        // An end that was shut down gives the packets before it, and then nothing.
        while let Some(length) = sys::take_packet(&self.inside, &mut beginning) {
            taken.push(beginning[..length].to_vec());
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read as _;

    use super::*;

    fn program(queue: &Queue) -> File {
        File::from(queue.inside().try_clone_to_owned().unwrap())
    }

    fn next(program: &mut File) -> Option<Vec<u8>> {
        let mut buffer = vec![0; Queue::PACKET_BYTES_MAX];
        let length = program.read(&mut buffer).ok()?;
        Some(buffer[..length].to_vec())
    }

    #[test]
    fn each_packet_is_had_by_one_of_the_two_and_whole() {
        let queue = Queue::new().unwrap();
        let mut program = program(&queue);
        let longest = vec![b'x'; Queue::PACKET_BYTES_MAX];
        for packet in [&b"one"[..], &longest, b"three", b"four"] {
            assert!(queue.put(packet).unwrap());
        }
        assert_eq!(next(&mut program).as_deref(), Some(&b"one"[..]));
        assert_eq!(next(&mut program), Some(longest));
        assert_eq!(queue.take_back::<2>(), [b"th", b"fo"]);
        assert_eq!(next(&mut program), None);
        assert!(queue.take_back::<2>().is_empty());
        assert!(queue.put(b"five").unwrap());
        assert_eq!(next(&mut program).as_deref(), Some(&b"five"[..]));
    }

    #[test]
    fn a_full_queue_is_told_of_and_a_wrong_packet_is_refused() {
        let queue = Queue::new().unwrap();
        let packet = vec![b'x'; Queue::PACKET_BYTES_MAX];
        let mut put = 0;
        while queue.put(&packet).unwrap() {
            put += 1;
        }
        assert!(put >= 2, "{put}");
        assert_eq!(queue.take_back::<1>().len(), put);
        assert!(queue.put(&[]).is_err());
        assert!(queue.put(&vec![b'x'; Queue::PACKET_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn a_program_that_shuts_its_end_leaves_what_it_has_not_taken() {
        let queue = Queue::new().unwrap();
        assert!(queue.put(b"one").unwrap());
        sys::shut_down(queue.inside()).unwrap();
        assert!(queue.put(b"two").is_err());
        assert!(queue.take_back::<9>().len() <= 1);
        assert!(queue.take_back::<9>().is_empty());
    }

    #[test]
    fn of_two_that_take_at_the_same_time_each_packet_is_had_by_one() {
        let queue = Queue::new().unwrap();
        let mut program = program(&queue);
        for round in 0..200 {
            for number in 0..50_u8 {
                assert!(queue.put(&[number]).unwrap());
            }
            let (theirs, ours) = std::thread::scope(|threads| {
                let reads = threads.spawn(|| {
                    let mut read = Vec::new();
                    while let Some(packet) = next(&mut program) {
                        read.extend(packet);
                        if read.len() > round % 40 {
                            break;
                        }
                    }
                    read
                });
                let ours: Vec<u8> = queue.take_back::<1>().concat();
                (reads.join().unwrap(), ours)
            });
            let mut all = [theirs, ours, queue.take_back::<1>().concat()].concat();
            all.sort_unstable();
            assert_eq!(all, (0..50).collect::<Vec<u8>>());
        }
    }
}

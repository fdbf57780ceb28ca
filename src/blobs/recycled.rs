//! Memory for pieces on their way out, used again and again: the kernel takes as long to hand out fresh
//! memory as to read a file into it.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// How many pieces' memory is kept for later.
const KEPT: usize = 32;

/// Memory that nobody uses at the moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Recycled(Arc<Mutex<Vec<Vec<u8>>>>);

/// Memory that somebody reads from; it comes back when the last of them is done.
struct Lent {
    memory: Vec<u8>,
    length: usize,
    home: Recycled,
}

impl Recycled {
    /// So many bytes, which `fill` writes.
    pub(super) fn filled<E>(&self, length: usize, fill: impl FnOnce(&mut [u8]) -> Result<(), E>) -> Result<Bytes, E> {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        if memory.len() < length {
            memory.resize(length, 0);
        }
        let mut lent = Lent { memory, length, home: self.clone() };
        fill(&mut lent.memory[..length])?;
        Ok(Bytes::from_owner(lent))
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.length]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut kept = self.home.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(mem::take(&mut self.memory));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(from: &Recycled, length: usize, with: u8) -> Bytes {
        let fill = |it: &mut [u8]| {
            it.fill(with);
            Ok::<_, ()>(())
        };
        from.filled(length, fill).unwrap()
    }

    #[test]
    fn memory_is_used_again_and_never_while_somebody_reads_it() {
        let recycled = Recycled::default();
        let long = filled(&recycled, 1000, 1);
        let end = long.slice(990..);
        let other = filled(&recycled, 10, 2);
        assert_eq!((&other[..], &end[..]), (&[2; 10][..], &[1; 10][..]));
        let place = long.as_ptr();
        drop((long, end));
        let short = filled(&recycled, 5, 3);
        assert_eq!((short.as_ptr(), &short[..]), (place, &[3; 5][..]));
    }

    #[test]
    fn what_could_not_be_filled_comes_back_as_well() {
        let recycled = Recycled::default();
        assert_eq!(recycled.filled(5, |_| Err("no")), Err("no"));
        assert_eq!(recycled.0.lock().unwrap().len(), 1);
    }
}

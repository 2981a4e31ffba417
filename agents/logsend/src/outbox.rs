//! Groups the lines that wait in memory into batches.

use std::collections::VecDeque;

/// Whole lines that are sent together and share a receipt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) bytes: Vec<u8>,
    pub(crate) lines: u64,
}

/// A queue of batches. A line joins the last batch if that stays within the bound. A line above the bound is
/// a batch of its own.
#[derive(Debug)]
pub(crate) struct Outbox {
    batches: VecDeque<Batch>,
    batch_bytes_max: usize,
    bytes: usize,
}

impl Outbox {
    pub(crate) fn new(batch_bytes_max: usize) -> Outbox {
        Outbox { batches: VecDeque::new(), batch_bytes_max, bytes: 0 }
    }

    pub(crate) fn push(&mut self, line: &[u8]) {
        self.bytes += line.len();
        match self.batches.back_mut() {
            Some(last) if last.bytes.len() + line.len() <= self.batch_bytes_max => {
                last.bytes.extend_from_slice(line);
                last.lines += 1;
            }
            _ => self.batches.push_back(Batch { bytes: line.to_vec(), lines: 1 }),
        }
    }

    /// Removes and returns the oldest batch.
    pub(crate) fn pop(&mut self) -> Option<Batch> {
        let batch = self.batches.pop_front()?;
        self.bytes -= batch.bytes.len();
        Some(batch)
    }

    /// Puts a batch that could not be sent back to the front.
    pub(crate) fn put_back(&mut self, batch: Batch) {
        self.bytes += batch.bytes.len();
        self.batches.push_front(batch);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn lines(&self) -> u64 {
        self.batches.iter().map(|batch| batch.lines).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// True if the next batch is complete: further lines go into later ones.
    pub(crate) fn has_full_batch(&self) -> bool {
        self.batches.len() > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn batches_keep_every_line_in_order_within_the_bound(
            steps in prop::collection::vec((1_usize..30, any::<bool>(), any::<bool>()), 1..60),
            batch_bytes_max in 1_usize..50,
        ) {
            let mut outbox = Outbox::new(batch_bytes_max);
            let (mut pushed, mut delivered) = (Vec::new(), Vec::new());
            for (number, (length, attempt, fails)) in steps.into_iter().enumerate() {
                let mut line = format!("{number}-").into_bytes();
                line.resize(line.len() + length, b'x');
                line.push(b'\n');
                outbox.push(&line);
                pushed.extend_from_slice(&line);
                if attempt && let Some(batch) = outbox.pop() {
                    prop_assert!(batch.bytes.len() <= batch_bytes_max || batch.lines == 1);
                    prop_assert!(batch.bytes.ends_with(b"\n"));
                    match fails {
                        true => outbox.put_back(batch),
                        false => delivered.extend(batch.bytes),
                    }
                }
                prop_assert_eq!(outbox.bytes(), pushed.len() - delivered.len());
            }
            while let Some(batch) = outbox.pop() {
                delivered.extend(batch.bytes);
            }
            prop_assert_eq!(delivered, pushed);
        }
    }
}

//! The items of a queue by number: dense while items are added and removed in order, small when few are left.

use super::item::Item;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Items whose numbers differ only in these low bits share a box.
const BOX_BITS: u32 = 6;

/// A map from number to item. Numbers only ascend, so a box is filled by appending, and an empty box frees
/// its memory. Compared with a standard map, this saves half-empty nodes and hashes.
#[derive(Clone, Debug, Default)]
pub struct Items {
    boxes: BTreeMap<u64, Vec<Item>>,
    len: usize,
}

impl Items {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn get(&self, number: u64) -> Option<&Item> {
        let items = self.boxes.get(&(number >> BOX_BITS))?;
        items.get(items.binary_search_by_key(&number, |item| item.number).ok()?)
    }

    pub fn get_mut(&mut self, number: u64) -> Option<&mut Item> {
        let items = self.boxes.get_mut(&(number >> BOX_BITS))?;
        let at = items.binary_search_by_key(&number, |item| item.number).ok()?;
        items.get_mut(at)
    }

    /// Inserts the item; returns the one that had this number before, if any.
    pub fn insert(&mut self, item: Item) -> Option<Item> {
        let items = self.boxes.entry(item.number >> BOX_BITS).or_default();
        match items.binary_search_by_key(&item.number, |item| item.number) {
            Ok(at) => items.get_mut(at).map(|old| std::mem::replace(old, item)),
            Err(at) => {
                items.insert(at, item);
                self.len += 1;
                None
            }
        }
    }

    pub fn remove(&mut self, number: u64) -> Option<Item> {
        let key = number >> BOX_BITS;
        let items = self.boxes.get_mut(&key)?;
        let at = items.binary_search_by_key(&number, |item| item.number).ok()?;
        let item = items.remove(at);
        self.len -= 1;
        if items.is_empty() {
            self.boxes.remove(&key);
        } else if items.len() * 4 <= items.capacity() {
            items.shrink_to(items.len() * 2);
        }
        Some(item)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Item> {
        self.boxes.values().flatten()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Item> {
        self.boxes.values_mut().flatten()
    }

    /// Iterates over the items in order of number, starting after `after`.
    pub fn iter_after(&self, after: u64) -> impl Iterator<Item = &Item> {
        let boxes = self.boxes.range((Bound::Included(after >> BOX_BITS), Bound::Unbounded));
        boxes.flat_map(|(_, items)| items).skip_while(move |item| item.number <= after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::item::{BodyPlace, ItemState};
    use proptest::prelude::*;

    fn item(number: u64) -> Item {
        Item {
            number,
            pushed_ms: 0,
            body: None,
            len: 0,
            place: BodyPlace::default(),
            attempts: 0,
            state: ItemState::Ready,
            extra: None,
        }
    }

    proptest! {
        #[test]
        fn it_is_a_map_in_order_of_number(steps in prop::collection::vec((any::<bool>(), 0u64..500), 0..300)) {
            let (mut shelf, mut model) = (Items::default(), BTreeMap::new());
            for (insert, number) in steps {
                if insert {
                    prop_assert_eq!(shelf.insert(item(number)).is_some(), model.insert(number, ()).is_some());
                } else {
                    prop_assert_eq!(shelf.remove(number).is_some(), model.remove(&number).is_some());
                }
                prop_assert_eq!(shelf.get(number).is_some(), model.contains_key(&number));
                prop_assert_eq!(shelf.len(), model.len());
                prop_assert!(shelf.iter().map(|i| i.number).eq(model.keys().copied()));
                let behind = model.range(number + 1..).map(|(n, ())| *n);
                prop_assert!(shelf.iter_after(number).map(|i| i.number).eq(behind));
            }
        }
    }
}

//! One item: its bytes, its place in the log, and its state.

use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// An item's id: the random number of the data directory, then the item's own number, which ascends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct ItemId {
    pub epoch: u64,
    pub number: u64,
}

impl ItemId {
    fn digits(self) -> [u8; 32] {
        let mut digits = [0; 32];
        digits[..16].copy_from_slice(&hex(self.epoch));
        digits[16..].copy_from_slice(&hex(self.number));
        digits
    }
}

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(text(&self.digits()))
    }
}

impl Serialize for ItemId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text(&self.digits()))
    }
}

/// Formats by hand: every answer has ids, and the standard formatter would take a tenth of a push.
fn hex(number: u64) -> [u8; 16] {
    let mut text = [0; 16];
    for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(number.to_be_bytes()) {
        *pair = [byte >> 4, byte & 15].map(|digit| if digit < 10 { b'0' + digit } else { b'a' - 10 + digit });
    }
    text
}

/// Converts hex digits to text; they are always valid UTF-8.
fn text(digits: &[u8]) -> &str {
    std::str::from_utf8(digits).unwrap_or_default()
}

impl FromStr for ItemId {
    type Err = String;

    fn from_str(text: &str) -> Result<ItemId, String> {
        let wrong = || "an id is 32 lower-case hex digits".to_owned();
        let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 32 || !text.bytes().all(hex) {
            return Err(wrong());
        }
        let part = |range| text.get(range).and_then(|digits| u64::from_str_radix(digits, 16).ok());
        match (part(0..16), part(16..32)) {
            (Some(epoch), Some(number)) => Ok(ItemId { epoch, number }),
            _ => Err(wrong()),
        }
    }
}

impl TryFrom<String> for ItemId {
    type Error = String;

    fn try_from(text: String) -> Result<ItemId, String> {
        text.parse()
    }
}

/// The token that proves a lease, as 16 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(text(&hex(self.0)))
    }
}

impl Serialize for Token {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text(&hex(self.0)))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Token {
    type Err = String;

    fn from_str(text: &str) -> Result<Token, String> {
        let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        let digits = (text.len() == 16 && text.bytes().all(hex)).then_some(text);
        let number = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        number.map(Token).ok_or_else(|| "a token is 16 lower-case hex digits".to_owned())
    }
}

/// The state of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ItemState {
    Ready,
    Delayed,
    Leased,
    Dead,
}

impl ItemState {
    pub const ALL: [ItemState; 4] =
        [ItemState::Ready, ItemState::Delayed, ItemState::Leased, ItemState::Dead];

    pub fn name(self) -> &'static str {
        match self {
            ItemState::Ready => "ready",
            ItemState::Delayed => "delayed",
            ItemState::Leased => "leased",
            ItemState::Dead => "dead",
        }
    }

    pub fn number(self) -> u8 {
        match self {
            ItemState::Ready => 0,
            ItemState::Delayed => 1,
            ItemState::Leased => 2,
            ItemState::Dead => 3,
        }
    }

    pub fn from_number(number: u8) -> Option<ItemState> {
        ItemState::ALL.get(usize::from(number)).copied()
    }
}

/// The place of a body in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BodyPlace {
    pub segment: u32,
    pub offset: u32,
}

/// One item. Kept small, since a queue may hold a million of them.
#[derive(Clone, Debug)]
pub struct Item {
    pub number: u64,
    pub pushed_ms: u64,
    /// `None` while the bytes are on the disk only.
    pub body: Option<Box<[u8]>>,
    pub len: u32,
    pub place: BodyPlace,
    pub attempts: u32,
    pub state: ItemState,
    /// Rarely used fields.
    pub extra: Option<Box<Extra>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extra {
    pub key: Option<Box<str>>,
    pub content_type: Option<Box<str>>,
    /// The reason of the last failed attempt.
    pub reason: Option<Box<str>>,
}

impl Item {
    pub fn key(&self) -> Option<&str> {
        self.extra.as_ref()?.key.as_deref()
    }

    pub fn content_type(&self) -> Option<&str> {
        self.extra.as_ref()?.content_type.as_deref()
    }

    pub fn reason(&self) -> Option<&str> {
        self.extra.as_ref()?.reason.as_deref()
    }

    pub fn set_reason(&mut self, reason: Option<&str>) {
        if reason.is_some() || self.extra.is_some() {
            self.extra.get_or_insert_default().reason = reason.map(Into::into);
        }
    }

    pub fn body_bytes_in_memory(&self) -> u64 {
        self.body.as_ref().map_or(0, |body| body.len() as u64)
    }
}

impl Extra {
    /// `None` if all fields are empty, so that nothing is allocated.
    pub fn boxed(self) -> Option<Box<Extra>> {
        (self != Extra::default()).then(|| Box::new(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_stays_small() {
        assert!(size_of::<Item>() <= 64, "{}", size_of::<Item>());
    }

    #[test]
    fn ids_and_tokens_are_read_as_they_are_written() {
        let id = ItemId { epoch: 0xfeed, number: 42 };
        assert_eq!(id.to_string(), "000000000000feed000000000000002a");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(Token(7).to_string().parse(), Ok(Token(7)));
        for wrong in ["", "+00000000000feed000000000000002a", "000000000000FEED000000000000002A", "ü0"] {
            assert!(wrong.parse::<ItemId>().is_err() && wrong.parse::<Token>().is_err());
        }
    }
}

//! A random number generator with the same sequence on every machine.

pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    pub fn one_of<T: Copy, const N: usize>(&mut self, things: [T; N]) -> T {
        things[usize::try_from(self.roll(N as u64)).unwrap_or(0)]
    }
}

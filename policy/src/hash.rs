//! Which slot a unit falls into: XXH64 of its raw bytes under a seed of its own per purpose and salt.
//! Separate seeds make layers, arms and rollouts independent of each other (`tests/hashing.rs` holds that).

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh64::{Xxh64, xxh64};

/// How many slots a unit can fall into. Shares finer than a thousandth of a percent cannot be told apart.
pub const SLOTS: u32 = 100_000;

/// Longest unit in bytes; longer ones are no identifiers, and hashing them would be a client's lever on our time.
const MAX_UNIT_LEN: usize = 256;

/// Stands between purpose and salt in the seed, so that no salt can imitate another purpose.
const SEPARATOR: u8 = 0x1F;

/// What a slot decides. The same salt gives independent slots for different purposes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Which experiment of a layer a unit takes part in.
    Layer,
    /// Which group of an experiment a unit belongs to.
    Arm,
    /// Whether a unit goes to the candidate version.
    Rollout,
}

impl Purpose {
    /// The name that goes into the seed. Changing one moves every unit.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Purpose::Layer => "layer",
            Purpose::Arm => "arm",
            Purpose::Rollout => "rollout",
        }
    }
}

/// What a unit is hashed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seed(u64);

impl Seed {
    /// The seed of a purpose under a salt: `XXH64(purpose ‖ 0x1F ‖ salt, 0)`.
    #[must_use]
    pub fn new(purpose: Purpose, salt: &str) -> Seed {
        let mut hash = Xxh64::new(0);
        hash.update(purpose.name().as_bytes());
        hash.update(&[SEPARATOR]);
        hash.update(salt.as_bytes());
        Seed(hash.digest())
    }

    /// The slot of a unit: the upper 32 bits of `XXH64(unit, seed)`, scaled to [`SLOTS`].
    /// Scaling favours a slot over another by less than 2.4e-5 of its size.
    #[must_use]
    pub fn slot(&self, unit: &[u8]) -> Slot {
        let scaled = (xxh64(unit, self.0) >> 32).wrapping_mul(u64::from(SLOTS)) >> 32;
        // Lossless: the upper half times SLOTS, shifted down, stays below SLOTS.
        Slot(scaled as u32)
    }
}

/// One of the [`SLOTS`] slots, 0 to 99,999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u32);

impl Slot {
    /// The slot of this number, if it is below [`SLOTS`].
    #[must_use]
    pub fn new(number: u32) -> Option<Slot> {
        (number < SLOTS).then_some(Slot(number))
    }

    /// Its number, below [`SLOTS`].
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

/// Bytes that can be bucketed: what a unit's header or cookie holds, 1 to 256 bytes of any kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit<'a>(&'a [u8]);

impl<'a> Unit<'a> {
    /// The unit in these bytes, unless they are none or more than 256.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<Unit<'a>> {
        (1..=MAX_UNIT_LEN)
            .contains(&bytes.len())
            .then_some(Unit(bytes))
    }

    /// The raw bytes, which are what is hashed.
    #[must_use]
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn the_hash_is_xxh64() {
        // From the reference implementation (python-xxhash, which wraps libxxhash).
        let every_byte: Vec<u8> = (0..=255).collect();
        let cases: [(&[u8], u64, u64); 9] = [
            (b"", 0, 0xef46_db37_51d8_e999),
            (b"", 1, 0xd5af_ba13_36a3_be4b),
            (b"a", 0, 0xd24e_c4f1_a98c_6e5b),
            (b"abc", 0, 0x44bc_2cf5_ad77_0999),
            ("grün-界".as_bytes(), 0, 0xd529_5914_3ae7_eade),
            (
                "grün-界".as_bytes(),
                0x9e37_79b9_7f4a_7c15,
                0x76e3_33a4_fa01_3d39,
            ),
            (
                b"Nobody inspects the spammish repetition",
                0,
                0xfbce_a83c_8a37_8bf1,
            ),
            (b"\xff\x00\xfe", 42, 0x5342_38f9_ae6d_1e75),
            (&every_byte, 0, 0x1fac_be84_06cd_904b),
        ];
        for (bytes, seed, expected) in cases {
            assert_eq!(xxh64(bytes, seed), expected, "{bytes:?} under {seed}");
        }
    }

    #[test]
    fn slots_never_change_between_releases() {
        // Computed with python-xxhash from the formulas above; a change here moves every user.
        let cases: [(Purpose, &str, [u32; 3]); 5] = [
            (Purpose::Layer, "checkout-flow-v2", [40190, 9720, 12538]),
            (Purpose::Arm, "", [22936, 58635, 31633]),
            (Purpose::Arm, "checkout-flow-v2", [42284, 28677, 83373]),
            (Purpose::Arm, "grün", [94999, 36776, 58626]),
            (Purpose::Rollout, "checkout-flow-v2", [88479, 37268, 53057]),
        ];
        for (purpose, salt, expected) in cases {
            let seed = Seed::new(purpose, salt);
            let units: [&[u8]; 3] = [b"user-1", "grün".as_bytes(), b"\xff"];
            assert_eq!(
                units.map(|unit| seed.slot(unit).get()),
                expected,
                "{purpose:?} {salt}"
            );
        }
        assert_eq!(Seed::new(Purpose::Arm, "s1"), Seed(0x80a2_44b9_a847_53a4));
    }

    #[test]
    fn units_have_1_to_256_bytes() {
        let bytes = [0xff; 257];
        for (len, valid) in [(0, false), (1, true), (256, true), (257, false)] {
            assert_eq!(Unit::new(&bytes[..len]).is_some(), valid, "{len}");
        }
    }

    #[test]
    fn slots_end_below_100_000() {
        assert_eq!(Slot::new(99_999).map(Slot::get), Some(99_999));
        assert_eq!(Slot::new(100_000), None);
    }

    #[test]
    fn a_seed_survives_serde() {
        let seed = Seed::new(Purpose::Rollout, "s");
        assert_eq!(
            serde_json::from_str::<Seed>(&serde_json::to_string(&seed).unwrap()).unwrap(),
            seed
        );
    }

    #[cfg(not(target_arch = "wasm32"))]
    mod properties {
        use proptest::prelude::*;

        use super::*;

        proptest! {
            #[test]
            fn every_unit_has_a_slot(unit in proptest::collection::vec(any::<u8>(), 0..300), salt in ".{0,20}") {
                let slot = Seed::new(Purpose::Arm, &salt).slot(&unit);
                prop_assert_eq!(Slot::new(slot.get()), Some(slot));
            }
        }
    }
}

//! Replays every corpus as an ordinary test, and a bounded number of mutations of each entry.

use std::fs;
use std::path::Path;

use restante_fuzz::TARGETS;

/// Mutations of each entry; the generator is seeded by the entry, so a failure repeats.
const MUTATIONS: u64 = 300;

#[test]
fn every_target_survives_its_corpus_and_mutations_of_it() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, target) in TARGETS {
        let mut entries: Vec<_> = fs::read_dir(corpus.join(name))
            .unwrap_or_else(|error| panic!("corpus/{name}: {error}"))
            .map(|entry| entry.unwrap().path())
            .collect();
        entries.sort();
        assert!(!entries.is_empty(), "corpus/{name} is empty");
        for path in entries {
            let entry = fs::read(&path).unwrap();
            target(&entry);
            (1..=MUTATIONS).for_each(|seed| target(&mutate(&entry, seed)));
        }
    }
}

/// Flips, removes, repeats and inserts a few octets.
fn mutate(entry: &[u8], seed: u64) -> Vec<u8> {
    const SPLICES: &[&[u8]] =
        &[b"\r\n", b"\n", b"\r", b"\r\n.\r\n", b" ", b";", b"=", b"\0", b"\xff", b"TBR ", b"\"", b"<", b">"];
    let mut random = Random(seed);
    let mut mutated = entry.to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(mutated.len() as u64 + 1) as usize;
        match random.below(4) {
            0 if at < mutated.len() => mutated[at] ^= 1 << random.below(8),
            1 if at < mutated.len() => drop(mutated.remove(at)),
            2 => {
                let tail = mutated[at..].to_vec();
                mutated.extend_from_slice(&tail[..tail.len().min(200)]);
            }
            _ => {
                let splice = SPLICES[random.below(SPLICES.len() as u64) as usize];
                mutated.splice(at..at, splice.iter().copied());
            }
        }
    }
    mutated
}

/// SplitMix64 (Steele, Lea, Flood, 2014): small, seeded, good enough for choosing places.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

//! The judge is awake: every seeded bug is found, and soon.

use sim::{Mutation, Options, run};

/// Worlds in which a bug must show.
const WORLDS: u64 = 400;

#[test]
fn every_seeded_bug_is_found() {
    for mutation in Mutation::ALL {
        let options = Options { verbose: false, mutation: Some(mutation), shape: mutation.shape() };
        let found = (0..WORLDS).find_map(|seed| run(seed, options).err().map(|violation| (seed, violation)));
        match found {
            Some((seed, violation)) => println!("{mutation} in seed {seed}: {violation}"),
            None => panic!("{mutation} is not found in {WORLDS} worlds"),
        }
    }
}

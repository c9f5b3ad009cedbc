//! One-time codes for the menu of a machine.
//!
//! A loader speaks plain HTTP, so a password typed into it could be read by the network. A code that is good once, at
//! one machine, for a few minutes, is worth nothing to who reads it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use farrier_engine::WallTime;
use farrier_engine::model::MachineId;

/// Codes that were given out and not used; one for each machine, the newest.
#[derive(Debug, Default)]
pub struct MenuCodes(Mutex<HashMap<MachineId, Held>>);

#[derive(Debug)]
struct Held {
    code: String,
    by: String,
    expires: WallTime,
    tries_left: u8,
}

/// What a person takes to the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    pub code: String,
    pub expires: WallTime,
}

/// Why there is no code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MenuCodeError {
    #[error("too many codes are given out and not used; try again in a few minutes")]
    TooMany,
    #[error("there are no random numbers")]
    Random,
}

impl MenuCodes {
    /// Makes a code for `machine`; an earlier one is void.
    pub fn issue(
        &self,
        machine: MachineId,
        by: &str,
        now: WallTime,
    ) -> Result<Issued, MenuCodeError> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|_, code| code.expires > now);
        if held.len() >= MAX_CODES && !held.contains_key(&machine) {
            return Err(MenuCodeError::TooMany);
        }
        let issued = Issued {
            code: random_digits()?,
            expires: now + LIFE,
        };
        let code = Held {
            code: issued.code.clone(),
            by: by.to_owned(),
            expires: issued.expires,
            tries_left: TRIES,
        };
        held.insert(machine, code);
        Ok(issued)
    }

    /// Uses a code up. Says who had given it out, or nothing when it is not right; after a few wrong ones the right
    /// one is void too.
    pub fn redeem(&self, machine: MachineId, typed: &str, now: WallTime) -> Option<String> {
        let mut codes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = codes.get_mut(&machine)?;
        let right = held.expires > now && held.code == typed.trim();
        held.tries_left -= 1;
        if right || held.tries_left == 0 || held.expires <= now {
            let held = codes.remove(&machine)?;
            return right.then_some(held.by);
        }
        None
    }
}

/// Six digits, each as likely as any other.
fn random_digits() -> Result<String, MenuCodeError> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| MenuCodeError::Random)?;
    // What is not even in the rest of so large a number is one in ten thousand thousand million.
    Ok(format!("{:06}", u64::from_be_bytes(bytes) % 1_000_000))
}

/// Long enough to walk to the machine.
const LIFE: Duration = Duration::from_secs(15 * 60);
/// One guess in two hundred thousand is right.
const TRIES: u8 = 5;
const MAX_CODES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::{LIFE, MAX_CODES, MenuCodeError, MenuCodes, TRIES};
    use farrier_engine::WallTime;
    use farrier_engine::model::MachineId;
    use uuid::Uuid;

    const NOW: WallTime = WallTime(1_000_000);

    fn machine(n: u128) -> MachineId {
        MachineId(Uuid::from_u128(n))
    }

    #[test]
    fn a_code_is_good_once_at_its_machine() {
        let codes = MenuCodes::default();
        let issued = codes.issue(machine(1), "ada", NOW).unwrap();
        assert_eq!(issued.code.len(), 6);
        assert_eq!(codes.redeem(machine(2), &issued.code, NOW), None);
        let typed = format!(" {} ", issued.code);
        assert_eq!(
            codes.redeem(machine(1), &typed, NOW).as_deref(),
            Some("ada")
        );
        assert_eq!(codes.redeem(machine(1), &issued.code, NOW), None);
    }

    #[test]
    fn it_ends_by_time_by_a_newer_one_and_by_guesses() {
        let codes = MenuCodes::default();
        let old = codes.issue(machine(1), "ada", NOW).unwrap();
        assert_eq!(codes.redeem(machine(1), &old.code, NOW + LIFE), None);

        let first = codes.issue(machine(1), "ada", NOW).unwrap();
        let second = codes.issue(machine(1), "ada", NOW).unwrap();
        if first.code != second.code {
            assert_eq!(codes.redeem(machine(1), &first.code, NOW), None);
        }
        for _ in 0..TRIES {
            assert_eq!(codes.redeem(machine(1), "none", NOW), None);
        }
        assert_eq!(codes.redeem(machine(1), &second.code, NOW), None);
    }

    #[test]
    fn t9_so_many_are_kept_and_no_more() {
        let codes = MenuCodes::default();
        for n in 0..MAX_CODES as u128 {
            codes.issue(machine(n), "ada", NOW).unwrap();
        }
        let one_more = codes.issue(machine(9999), "ada", NOW);
        assert!(matches!(one_more, Err(MenuCodeError::TooMany)));
        codes.issue(machine(5), "ada", NOW).unwrap();
        codes.issue(machine(9999), "ada", NOW + LIFE).unwrap();
    }
}

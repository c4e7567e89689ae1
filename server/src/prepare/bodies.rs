//! The bytes of bodies that are read, wait and are prepared, all together.
//!
//! Bodies are counted as they arrive, not as they are announced: a client that sends slowly takes no room from others. The
//! beginning of each is free, since the number of connections bounds it already: a request of ordinary size is never
//! refused because others send large ones.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::Owner;
use crate::client_key::ClientKey;

/// Bytes of all bodies together.
const MOST: usize = 64 << 20;
/// Of those one client's. Local programs that show neither a certificate nor the bearer token count as one client, since they
/// cannot be told apart; those with the token are another.
const MOST_OF_ONE: usize = MOST / 2;
/// Bytes of each body that are not counted.
const FREE: usize = 64 << 10;

/// All bodies that are held.
#[derive(Clone, Default)]
pub struct Bodies(Arc<Mutex<HashMap<ClientKey, usize>>>);

/// What one body holds of the room; given back when it is dropped.
pub struct Held {
    bodies: Bodies,
    client: ClientKey,
    bytes: usize,
    counted: usize,
}

/// There is no room for more of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// One client has all that it may have.
    #[error(
        "requests of this client already have {} MiB of bodies in preparation (local programs without a token or a \
         certificate count as one client)",
        MOST_OF_ONE >> 20
    )]
    Client,
    /// All clients together have.
    #[error("requests with {} MiB of bodies are in preparation", MOST >> 20)]
    Server,
}

impl Bodies {
    /// A body of which nothing has arrived.
    pub fn begin(&self, owner: &Owner) -> Held {
        Held {
            bodies: self.clone(),
            client: owner.client.clone(),
            bytes: 0,
            counted: 0,
        }
    }
}

impl Held {
    /// More of the body has arrived.
    ///
    /// # Errors
    /// If there is no room for it.
    pub fn grow(&mut self, bytes: usize) -> Result<(), NoRoom> {
        self.bytes += bytes;
        let more = self.bytes.saturating_sub(FREE) - self.counted;
        if more == 0 {
            return Ok(());
        }
        let mut all = self.bodies.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sum: usize = all.values().sum();
        let own = all.get(&self.client).copied().unwrap_or(0);
        if own + more > MOST_OF_ONE {
            return Err(NoRoom::Client);
        }
        if sum + more > MOST {
            return Err(NoRoom::Server);
        }
        all.insert(self.client.clone(), own + more);
        self.counted += more;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.counted == 0 {
            return;
        }
        let mut all = self.bodies.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = all.get_mut(&self.client) {
            *held -= self.counted;
            if *held == 0 {
                all.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: u8) -> Owner {
        let address = [192, 0, 2, number];
        Owner::of(ClientKey::Ipv4(address.into()), (address, 1).into())
    }

    #[test]
    fn a_client_has_half_and_all_together_have_the_whole() {
        let bodies = Bodies::default();
        let begin = |number| bodies.begin(&client(number));
        let mut first = begin(1);
        assert_eq!(first.grow(FREE + MOST_OF_ONE), Ok(()));
        assert_eq!(begin(1).grow(FREE + 1), Err(NoRoom::Client));
        let mut second = begin(2);
        assert_eq!(second.grow(FREE + MOST_OF_ONE), Ok(()));
        assert_eq!(begin(3).grow(FREE + 1), Err(NoRoom::Server));
        // What is ordinary is taken whatever others send.
        assert_eq!(begin(1).grow(FREE), Ok(()));
        drop(first);
        assert_eq!(begin(3).grow(FREE + 1), Ok(()));
        drop(second);
        assert!(bodies.0.lock().unwrap().is_empty());
    }

    #[test]
    fn local_programs_with_the_token_have_room_beside_those_without() {
        let bodies = Bodies::default();
        let local = |client, port| bodies.begin(&Owner::of(client, ([127, 0, 0, 1], port).into()));
        let mut first = local(ClientKey::Loopback, 1);
        assert_eq!(first.grow(FREE + MOST_OF_ONE), Ok(()));
        let other = local(ClientKey::Loopback, 2).grow(FREE + 1);
        assert_eq!(other, Err(NoRoom::Client));
        let mut with_token = local(ClientKey::LoopbackWithToken, 3);
        assert_eq!(with_token.grow(FREE + MOST_OF_ONE), Ok(()));
    }
}

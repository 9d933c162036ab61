//! What the Noise protocol is made of here: the pure Rust ciphers of `snow`, X25519, and the system's randomness as everything else
//! reads it.

use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, Error};
use zeroize::Zeroizing;

use crate::curve::{CURVE_BYTES, public_half, shared_secret};
use crate::random::random;

/// What a session is built from.
pub(super) fn builder<'a>(params: NoiseParams) -> Builder<'a> {
    Builder::with_resolver(params, Box::new(Resolver))
}

struct Resolver;

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(SystemRandom))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        matches!(choice, DHChoice::Curve25519).then(|| Box::new(Curve::default()) as Box<dyn Dh>)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

/// A private key, which is overwritten when it goes, and refuses public keys by which everyone would find the secret.
#[derive(Default)]
struct Curve {
    private: Zeroizing<[u8; CURVE_BYTES]>,
    public: [u8; CURVE_BYTES],
}

impl Dh for Curve {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        CURVE_BYTES
    }

    fn priv_len(&self) -> usize {
        CURVE_BYTES
    }

    fn set(&mut self, private: &[u8]) {
        self.private.copy_from_slice(private);
        self.public = public_half(&self.private);
    }

    fn generate(&mut self, random: &mut dyn Random) -> Result<(), Error> {
        random.try_fill_bytes(&mut *self.private)?;
        self.public = public_half(&self.private);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        &*self.private
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let public = public.first_chunk().ok_or(Error::Dh)?;
        let secret = shared_secret(&self.private, public).ok_or(Error::Dh)?;
        out.get_mut(..CURVE_BYTES).ok_or(Error::Dh)?.copy_from_slice(&*secret);
        Ok(())
    }
}

struct SystemRandom;

impl Random for SystemRandom {
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        for chunk in bytes.chunks_mut(32) {
            let drawn = random::<32>().map_err(|_| Error::Rng)?;
            let (drawn, _) = drawn.split_at(chunk.len());
            chunk.copy_from_slice(drawn);
        }
        Ok(())
    }
}

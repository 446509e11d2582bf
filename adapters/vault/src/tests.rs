//! The vault as a whole.

use std::sync::Arc;

use adapter_kit::{KeyStore as _, MemoryKeys, Plain, Vault as _, VaultError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine_model::{KeyId, Sealed};
use proptest::prelude::*;

use super::*;

const SECRET: &[u8] = br#"{"password":"hunter2"}"#;

struct House {
    dir: tempfile::TempDir,
    store: Arc<MemoryKeys>,
}

impl House {
    fn new() -> Self {
        let house = Self {
            dir: tempfile::tempdir().unwrap(),
            store: Arc::default(),
        };
        MasterKeys::create(&house.path()).unwrap();
        house
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("master.key")
    }

    fn vault(&self) -> EnvelopeVault {
        EnvelopeVault::new(MasterKeys::read(&self.path()).unwrap(), self.store.clone())
    }
}

fn id(text: &str) -> KeyId {
    KeyId(text.to_owned())
}

fn secret() -> Plain {
    Plain::new(SECRET.to_vec())
}

/// Changes the byte at `at` of a base64 text's content.
fn spoil(text: &mut String, at: usize) {
    let mut bytes = STANDARD.decode(&*text).unwrap();
    let at = at % bytes.len();
    bytes[at] ^= 0x40;
    *text = STANDARD.encode(bytes);
}

fn block<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

#[tokio::test]
async fn what_is_sealed_opens_also_after_a_restart() {
    let house = House::new();
    let sealed = house.vault().seal(&id("a"), &secret()).await.unwrap();
    assert_eq!(house.vault().open(&sealed).await.unwrap().expose(), SECRET);
}

#[tokio::test]
async fn each_sealing_is_another_one() {
    let house = House::new();
    let vault = house.vault();
    let one = vault.seal(&id("a"), &secret()).await.unwrap();
    let two = vault.seal(&id("a"), &secret()).await.unwrap();
    assert_ne!(one, two);
    assert_eq!(
        vault.open(&one).await.unwrap().expose(),
        vault.open(&two).await.unwrap().expose()
    );
}

#[tokio::test]
async fn what_is_sealed_under_one_key_does_not_open_under_another() {
    let house = House::new();
    let vault = house.vault();
    let a = vault.seal(&id("a"), &secret()).await.unwrap();
    vault.seal(&id("b"), &secret()).await.unwrap();
    let moved = Sealed { key: id("b"), ..a };
    assert_eq!(
        vault.open(&moved).await.unwrap_err(),
        VaultError::Unreadable
    );
}

#[tokio::test]
async fn a_wrapped_key_does_not_serve_under_another_id() {
    let house = House::new();
    let vault = house.vault();
    let a = vault.seal(&id("a"), &secret()).await.unwrap();
    let wrapped = house.store.get(&id("a")).await.unwrap().unwrap();
    house.store.create(&id("b"), wrapped).await.unwrap();
    let moved = Sealed { key: id("b"), ..a };
    assert_eq!(
        vault.open(&moved).await.unwrap_err(),
        VaultError::Unreadable
    );
}

#[tokio::test]
async fn erasing_makes_it_unreadable_for_ever() {
    let house = House::new();
    let vault = house.vault();
    let sealed = vault.seal(&id("a"), &secret()).await.unwrap();
    vault.open(&sealed).await.unwrap();
    vault.erase(&id("a")).await.unwrap();
    vault.erase(&id("a")).await.unwrap();
    assert_eq!(
        vault.open(&sealed).await.unwrap_err(),
        VaultError::Erased(id("a"))
    );
    vault.seal(&id("a"), &secret()).await.unwrap();
    assert_eq!(
        vault.open(&sealed).await.unwrap_err(),
        VaultError::Unreadable
    );
}

#[tokio::test]
async fn a_node_that_is_told_forgets_what_another_node_erased() {
    let house = House::new();
    let (here, there) = (house.vault(), house.vault());
    let sealed = here.seal(&id("a"), &secret()).await.unwrap();
    here.open(&sealed).await.unwrap();
    there.erase(&id("a")).await.unwrap();
    here.forget(&id("a"));
    assert_eq!(
        here.open(&sealed).await.unwrap_err(),
        VaultError::Erased(id("a"))
    );
}

#[tokio::test]
async fn after_rotation_old_secrets_open_and_keys_can_be_wrapped_anew() {
    let house = House::new();
    let before = house.vault();
    let sealed = before.seal(&id("a"), &secret()).await.unwrap();
    let to_old_key = Sealer::parse(&before.public_key()).unwrap().seal(SECRET);
    let only_old = MasterKeys::read(&house.path()).unwrap();

    MasterKeys::rotate(&house.path()).unwrap();
    let after = house.vault();
    assert_eq!(after.open(&sealed).await.unwrap().expose(), SECRET);
    assert_eq!(after.open_client(&to_old_key).unwrap().expose(), SECRET);
    assert_ne!(after.public_key(), before.public_key());

    let old = house.store.get(&id("a")).await.unwrap().unwrap();
    let new = after
        .rewrap(&id("a"), &old)
        .unwrap()
        .expect("it was wrapped by version 1");
    assert_eq!(after.rewrap(&id("a"), &new).unwrap(), None);
    house.store.erase(&id("a")).await.unwrap();
    house.store.create(&id("a"), new).await.unwrap();
    assert_eq!(house.vault().open(&sealed).await.unwrap().expose(), SECRET);

    let old_vault = EnvelopeVault::new(only_old, house.store.clone());
    assert_eq!(
        old_vault.open(&sealed).await.unwrap_err(),
        VaultError::UnknownKey("master key version 2".into())
    );
}

#[tokio::test]
async fn another_master_key_opens_nothing() {
    let (house, stranger) = (House::new(), House::new());
    let vault = house.vault();
    let sealed = vault.seal(&id("a"), &secret()).await.unwrap();
    let thief = EnvelopeVault::new(
        MasterKeys::read(&stranger.path()).unwrap(),
        house.store.clone(),
    );
    assert_eq!(
        thief.open(&sealed).await.unwrap_err(),
        VaultError::Unreadable
    );
    let to_us = Sealer::parse(&vault.public_key()).unwrap().seal(SECRET);
    assert_eq!(
        thief.open_client(&to_us).unwrap_err(),
        VaultError::UnknownKey(to_us.key.clone())
    );
    let relabelled = engine_model::ClientSealed {
        key: thief.public_key().split(':').next().unwrap().to_owned(),
        ..to_us
    };
    assert_eq!(
        thief.open_client(&relabelled).unwrap_err(),
        VaultError::Unreadable
    );
}

#[test]
fn a_public_key_that_is_none_is_refused() {
    let house = House::new();
    let good = house.vault().public_key();
    assert!(Sealer::parse(&format!(" {good}\n")).is_ok());
    let low_order = format!("x:{}", STANDARD.encode([0; 32]));
    for bad in [
        "",
        "x",
        "x:",
        ":AAAA",
        "x:AAAA",
        "x:not base64!",
        &low_order,
    ] {
        assert!(Sealer::parse(bad).is_err(), "{bad}");
    }
}

#[tokio::test]
async fn nothing_plain_is_shown_or_kept() {
    let house = House::new();
    let vault = house.vault();
    let sealed = vault.seal(&id("a"), &secret()).await.unwrap();
    let client = Sealer::parse(&vault.public_key()).unwrap().seal(SECRET);
    let file = std::fs::read_to_string(house.path()).unwrap();
    let master = file
        .lines()
        .last()
        .unwrap()
        .split_once(':')
        .unwrap()
        .1
        .to_owned();
    let shown = format!(
        "{vault:?} {sealed:?} {client:?} {:?} {:?} {} {}",
        secret(),
        vault.open(&sealed).await.unwrap(),
        serde_json::to_string(&sealed).unwrap(),
        serde_json::to_string(&client).unwrap(),
    );
    assert!(
        !shown.contains("hunter2") && !shown.contains(&master),
        "{shown}"
    );
    let wrapped = house.store.get(&id("a")).await.unwrap().unwrap();
    let master = STANDARD.decode(master).unwrap();
    assert!(!wrapped.windows(32).any(|window| window == master));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_a_client_seals_the_vault_opens(plain in any::<Vec<u8>>()) {
        let house = House::new();
        let vault = house.vault();
        let sealed = Sealer::parse(&vault.public_key()).unwrap().seal(&plain);
        let opened = vault.open_client(&sealed).unwrap();
        prop_assert_eq!(opened.expose(), plain.as_slice());
    }

    #[test]
    fn whatever_is_changed_of_a_sealed_value_is_noticed(at in any::<usize>(), part in 0..6_u8) {
        let house = House::new();
        let vault = house.vault();
        let mut client = Sealer::parse(&vault.public_key()).unwrap().seal(SECRET);
        let mut sealed = block(vault.seal(&id("a"), &secret())).unwrap();
        match part {
            0 => spoil(&mut client.ciphertext, at),
            1 => spoil(&mut client.encapsulated, at % 31),
            2 => client.ciphertext.truncate(at % client.ciphertext.len()),
            3 => spoil(&mut sealed.ciphertext, at),
            4 => spoil(&mut sealed.nonce, at),
            _ => sealed.ciphertext.truncate(at % sealed.ciphertext.len()),
        }
        if part < 3 {
            prop_assert_eq!(vault.open_client(&client).unwrap_err(), VaultError::Unreadable);
        } else {
            prop_assert_eq!(block(vault.open(&sealed)).unwrap_err(), VaultError::Unreadable);
        }
    }

    #[test]
    fn whatever_is_changed_of_a_wrapped_key_is_noticed(at in 0..65_usize, bit in 0..8_u8) {
        let house = House::new();
        let vault = house.vault();
        let sealed = block(vault.seal(&id("a"), &secret())).unwrap();
        let mut wrapped = block(house.store.get(&id("a"))).unwrap().unwrap();
        prop_assert_eq!(wrapped.len(), 65);
        wrapped[at] ^= 1 << bit;
        block(house.store.erase(&id("a"))).unwrap();
        block(house.store.create(&id("a"), wrapped)).unwrap();
        prop_assert!(block(vault.open(&sealed)).is_err());
    }
}

//! `keelson-build keys`: shows and changes the keys that builds are signed with.

use keelson_bootstate::signature::PublicKey;
use keelson_images::keys::{self, Keys};

use crate::parts::load_keys;

/// What to do with the keys.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum Command {
    /// Say which keys there are; makes them when there are none.
    Show,
    /// Make a new release key, certified by the root keys.
    Rotate {
        /// Builds made from now on no longer trust the release keys before it.
        #[arg(long)]
        withdraw: bool,
    },
    /// Make another root key, to give up the first one later.
    AddRoot,
    /// No longer trust a root key in builds made from now on.
    DropRoot {
        /// The key, as `show` writes it.
        #[arg(value_parser = parse_key)]
        key: PublicKey,
    },
}

/// Does it.
pub(crate) fn run(command: &Command) -> anyhow::Result<()> {
    let keys = match command {
        Command::Show => load_keys()?,
        Command::Rotate { withdraw } => Keys::rotate(&keys::folder()?, *withdraw)?,
        Command::AddRoot => Keys::add_root(&keys::folder()?)?,
        Command::DropRoot { key } => Keys::drop_root(&keys::folder()?, *key)?,
    };
    show(&keys);
    Ok(())
}

fn show(keys: &Keys) {
    println!("folder   {}", keys.folder().display());
    for certificate in keys.certificates() {
        println!(
            "release  {} epoch {}, certified by root {}",
            certificate.key, certificate.epoch, certificate.root
        );
    }
    for root in keys.trust().roots() {
        println!("trusted  root {root}");
    }
    println!(
        "trusted  release keys of epoch {} and later",
        keys.trust().minimum_epoch()
    );
}

fn parse_key(text: &str) -> Result<PublicKey, String> {
    let wrong = || "a key is written with 64 hexadecimal digits".to_owned();
    let hash: keelson_bundle::Hash = text.parse().map_err(|_| wrong())?;
    Ok(PublicKey::new(*hash.as_bytes()))
}

//! What apid works with: its certificate, whom it believes, who is shut out.

use std::path::PathBuf;

use keelson_config::CertificatePem;
use keelson_pki::{ApiFacts, ApiPki, DirectoryVault, establish_api};
use keelson_service::Accounts;
use serde_json::json;
use time::OffsetDateTime;

use super::people::{People, PeopleError};
use super::{CertificatesError, hand_over, make_folder};
use crate::paths::Paths;
use crate::render::{self, RenderError};

/// What the node API depends on besides its certificates' own facts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access<'a> {
    /// The node waits for a configuration.
    pub(crate) maintenance: bool,
    /// Whose certificates are accepted besides those of the node's own authority.
    pub(crate) client_authorities: &'a [CertificatePem],
}

/// The node API's files could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// The certificates.
    #[error(transparent)]
    Certificates(#[from] CertificatesError),
    /// The list of people's certificates.
    #[error(transparent)]
    People(#[from] PeopleError),
    /// A file for everyone.
    #[error(transparent)]
    Render(#[from] RenderError),
}

/// Whether the authority was made already: its clock was good enough.
pub(crate) fn has_authority(paths: &Paths) -> bool {
    authority_file(paths).exists()
}

/// Brings everything up to date that apid reads.
pub(crate) fn bring_up(
    paths: &Paths,
    facts: &ApiFacts,
    access: Access<'_>,
    now: OffsetDateTime,
) -> Result<ApiPki, ApiError> {
    let accounts = Accounts::read(paths.root()).map_err(CertificatesError::from)?;
    let vault = paths.vault();
    make_folder(&vault)?;
    let pki = establish_api(&mut DirectoryVault::new(vault), facts, now)
        .map_err(CertificatesError::from)?;
    for note in &pki.notes {
        tracing::info!("{note}");
    }
    publish_access(paths, access.maintenance)?;
    let mut authorities = pki.authority.certificate_pem().to_owned();
    for other in access.client_authorities {
        authorities.push_str(other.as_str());
    }
    render::publish(&paths.rendered().join("api-ca.crt"), &authorities)?;
    hand_over(paths, &accounts, &pki.delivery())?;
    Ok(pki)
}

/// Tells apid who is shut out, and whether the node is in maintenance.
pub(crate) fn publish_access(paths: &Paths, maintenance: bool) -> Result<(), ApiError> {
    let people = People::read(&paths.people())?;
    let mode = if maintenance { "maintenance" } else { "normal" };
    let text = json!({"mode": mode, "revoked": people.revoked()}).to_string();
    render::publish(&paths.access(), &text)?;
    Ok(())
}

fn authority_file(paths: &Paths) -> PathBuf {
    paths.vault().join(keelson_pki::Authority::Api.vault_name())
}

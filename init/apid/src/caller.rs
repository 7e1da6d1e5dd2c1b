//! Whoever is at the other end of a connection, and whether that still holds.

use std::cell::RefCell;
use std::sync::Arc;

use keelson_api::access::Role;
use rustls::pki_types::{CertificateDer, UnixTime};

use crate::access_file::Mode;
use crate::identity::{IdentityError, Person};
use crate::trust::{Authorities, Snapshot};

/// Whoever is at the other end of a connection.
#[derive(Debug)]
pub(crate) enum Caller {
    /// Somebody with a certificate.
    Certified(Box<Certified>),
    /// Somebody without one, let in because the node was in maintenance.
    Nobody,
}

/// Somebody with a certificate.
#[derive(Debug)]
pub(crate) struct Certified {
    pub(crate) person: Person,
    /// The certificate and those between it and its authority.
    chain: Vec<CertificateDer<'static>>,
    /// The authorities that the chain was checked against.
    vouched_by: RefCell<Authorities>,
}

/// Why a caller gets nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Outcast {
    #[error("the certificate has expired")]
    Expired,
    #[error("the certificate does not hold yet; is the clock right?")]
    NotYetValid,
    #[error("the certificate was revoked")]
    Revoked,
    #[error("the certificate's authority is not trusted any more")]
    Distrusted,
    #[error("the node is configured now: a client certificate is needed")]
    MaintenanceOver,
}

impl Caller {
    /// Whoever finished a handshake under `snapshot` with this chain.
    pub(crate) fn new(
        chain: Option<&[CertificateDer<'_>]>,
        snapshot: &Snapshot,
    ) -> Result<Self, IdentityError> {
        let chain = chain.unwrap_or_default();
        let Some(certificate) = chain.first() else {
            return Ok(Self::Nobody);
        };
        Ok(Self::Certified(Box::new(Certified {
            person: Person::read(certificate)?,
            chain: chain.iter().map(|one| one.clone().into_owned()).collect(),
            vouched_by: RefCell::new(snapshot.authorities.clone()),
        })))
    }

    /// Name for the log.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Certified(certified) => &certified.person.name,
            Self::Nobody => "",
        }
    }

    /// The role that holds now.
    pub(crate) fn role(&self, snapshot: &Snapshot, now: UnixTime) -> Result<Role, Outcast> {
        match self {
            Self::Nobody if snapshot.mode == Mode::Maintenance => Ok(Role::Maintenance),
            Self::Nobody => Err(Outcast::MaintenanceOver),
            Self::Certified(certified) => certified.role(snapshot, now),
        }
    }
}

impl Certified {
    fn role(&self, snapshot: &Snapshot, now: UnixTime) -> Result<Role, Outcast> {
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if seconds > self.person.until {
            return Err(Outcast::Expired);
        }
        if seconds < self.person.from {
            return Err(Outcast::NotYetValid);
        }
        if snapshot.revoked.contains(&self.person.fingerprint) {
            return Err(Outcast::Revoked);
        }
        if !self.is_vouched_for(snapshot, now) {
            return Err(Outcast::Distrusted);
        }
        Ok(self.person.role)
    }

    /// Whether the authorities of now signed the certificate; asked anew when they change.
    fn is_vouched_for(&self, snapshot: &Snapshot, now: UnixTime) -> bool {
        let Some(authorities) = &snapshot.authorities else {
            return false;
        };
        let mut vouched_by = self.vouched_by.borrow_mut();
        if vouched_by
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, authorities))
        {
            return true;
        }
        let Some((certificate, intermediates)) = self.chain.split_first() else {
            return false;
        };
        let vouched = authorities
            .verify_client_cert(certificate, intermediates, now)
            .is_ok();
        if vouched {
            *vouched_by = Some(Arc::clone(authorities));
        }
        vouched
    }
}

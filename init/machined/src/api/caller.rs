//! Who calls, as apid says in the headers it sets; only apid and root can connect here.

use keelson_api::access::Role;
use keelson_api::{PEER_HEADER, PERSON_HEADER, ROLE_HEADER};
use tonic::{Request, Status};

/// A caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Name in the certificate.
    pub(crate) person: String,
    /// Role in the certificate.
    pub(crate) role: Role,
    /// Address the call came from.
    pub(crate) peer: String,
}

impl Caller {
    /// Reads the headers.
    pub(crate) fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        let header = |name: &'static str| {
            request
                .metadata()
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
                .ok_or_else(|| Status::unauthenticated(format!("the header {name} is missing")))
        };
        let role = header(ROLE_HEADER)?;
        let role = if role == Role::Maintenance.as_str() {
            Role::Maintenance
        } else {
            role.parse()
                .map_err(|error| Status::unauthenticated(format!("{ROLE_HEADER}: {error}")))?
        };
        Ok(Self {
            person: header(PERSON_HEADER)?,
            role,
            peer: header(PEER_HEADER)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_headers_are_needed() {
        let mut request = Request::new(());
        assert!(Caller::of(&request).is_err());
        for (name, value) in [
            (PERSON_HEADER, "ada"),
            (ROLE_HEADER, "operator"),
            (PEER_HEADER, "192.0.2.1:4711"),
        ] {
            request.metadata_mut().insert(name, value.parse().unwrap());
        }
        let caller = Caller::of(&request).unwrap();
        assert_eq!(caller.person, "ada");
        assert_eq!(caller.role, Role::Operator);
        request
            .metadata_mut()
            .insert(ROLE_HEADER, "root".parse().unwrap());
        assert!(Caller::of(&request).is_err());
    }
}

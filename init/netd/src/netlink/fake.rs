//! A kernel that only remembers, for tests of what netd decides.

use std::cell::RefCell;

use super::{Kernel, NetlinkError};
use crate::model::{Address, Link, Observed, Owner, Route};
use crate::plan::Operation;

/// Carries out operations on a model.
#[derive(Debug, Default)]
pub(crate) struct FakeKernel {
    state: RefCell<Observed>,
}

impl FakeKernel {
    pub(crate) fn new(links: Vec<Link>) -> Self {
        Self {
            state: RefCell::new(Observed {
                links,
                ..Observed::default()
            }),
        }
    }

    pub(crate) fn add(&self, address: Address) {
        self.state.borrow_mut().addresses.push(address);
    }

    pub(crate) fn state(&self) -> Observed {
        self.state.borrow().clone()
    }

    pub(crate) fn apply_all(&self, operations: &[Operation]) {
        for operation in operations {
            self.carry_out(operation);
        }
    }

    fn carry_out(&self, operation: &Operation) {
        let mut state = self.state.borrow_mut();
        match operation {
            Operation::AddAddress { link, address } => {
                state
                    .addresses
                    .retain(|known| (known.link, known.address) != (*link, address.address));
                state.addresses.push(Address {
                    link: *link,
                    address: address.address,
                    owner: address.owner,
                    valid_for: address.valid_for,
                });
            }
            Operation::AddRoute { link, route } => state.routes.push(Route {
                link: *link,
                to: route.to,
                via: route.via,
                metric: route.metric,
                owner: Owner::Netd,
            }),
            Operation::RemoveAddress { link, address } => {
                state
                    .addresses
                    .retain(|known| (known.link, known.address) != (*link, *address));
            }
            Operation::RemoveRoute {
                link,
                to,
                via,
                metric,
            } => state.routes.retain(|known| {
                (known.link, known.to, known.via, known.metric) != (*link, *to, *via, *metric)
            }),
            Operation::SetAcceptRa { name, value } => {
                for link in state.links.iter_mut().filter(|link| link.name == *name) {
                    link.accept_ra = Some(*value);
                }
            }
            Operation::SetMtu { link, mtu } => {
                for known in state.links.iter_mut().filter(|known| known.index == *link) {
                    known.mtu = *mtu;
                }
            }
            Operation::SwitchOn { link } => {
                for known in state.links.iter_mut().filter(|known| known.index == *link) {
                    known.up = true;
                }
            }
        }
    }
}

impl Kernel for FakeKernel {
    async fn observe(&self) -> Result<Observed, NetlinkError> {
        Ok(self.state())
    }

    async fn apply(&self, operation: &Operation) -> Result<(), NetlinkError> {
        self.carry_out(operation);
        Ok(())
    }
}

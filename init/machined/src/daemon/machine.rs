//! What the daemon needs of the machine it runs on: its clock, its addresses, its name.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use keelson_sys::readable::Readable;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use time::OffsetDateTime;

/// The machine; tests have one of their own.
pub(crate) trait Machine {
    /// The wall clock, which may jump.
    fn now(&self) -> OffsetDateTime;

    /// Since the kernel started, which nobody can set.
    fn since_boot(&self) -> Duration;

    /// Addresses of its network cards that others can call.
    fn addresses(&self) -> BTreeSet<IpAddr>;

    /// Gives the kernel its host name.
    fn set_host_name(&self, name: &str) -> io::Result<()>;

    /// Returns when an hour is over, the clock was set, or an address came or went.
    fn news(&self) -> impl Future<Output = ()>;
}

/// How often certificates are looked at without a reason. They live a year.
const INTERVAL_SECONDS: i64 = 3600;

/// Announcements of addresses (rtnetlink(7): RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR).
const ADDRESS_GROUPS: u32 = 0x10 | 0x100;

/// Pause before the kernel is asked again for what it refused.
const RETRY: Duration = Duration::from_secs(60);

/// The machine this program runs on.
#[derive(Debug)]
pub(crate) struct ThisMachine {
    /// Goes off at a time of the wall clock, and when that is set.
    timer: Readable,
    announcements: Readable,
    links: PathBuf,
    /// What was given as the machine's addresses last.
    told: RefCell<BTreeSet<IpAddr>>,
}

impl ThisMachine {
    /// Opens what announces news. `links` is `/sys/class/net`.
    pub(crate) fn open(links: PathBuf) -> io::Result<Self> {
        let timer = timerfd_create(
            TimerfdClockId::Realtime,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )?;
        arm(&timer)?;
        let announcements = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkRoute,
        )?;
        bind(
            announcements.as_raw_fd(),
            &NetlinkAddr::new(0, ADDRESS_GROUPS),
        )?;
        Ok(Self {
            timer: Readable::new(timer)?,
            announcements: Readable::new(announcements)?,
            links,
            told: RefCell::default(),
        })
    }

    /// The hour is over, or somebody set the clock.
    async fn clock_news(&self) -> io::Result<()> {
        let read = self
            .timer
            .read(|timer| Ok(rustix::io::read(timer, &mut [0; 8])?));
        match read.await {
            // ECANCELED: the clock was set (timerfd_create(2), TFD_TIMER_CANCEL_ON_SET).
            Err(error) if error.raw_os_error() != Some(CANCELED) => return Err(error),
            _ => {}
        }
        tracing::debug!("looking at the certificates");
        arm(&self.timer)
    }

    /// Something happened to some address; what, is for [`Machine::addresses`] to say.
    async fn address_news(&self) -> io::Result<()> {
        let all = self.announcements.read(|socket| {
            let mut seen = false;
            loop {
                let mut buffer = [0; 8192];
                match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                    // ENOBUFS: announcements were lost, which is news as well.
                    Ok(_) | Err(Errno::ENOBUFS) => seen = true,
                    Err(Errno::EAGAIN) if seen => return Ok(()),
                    Err(error) => return Err(error.into()),
                }
            }
        });
        all.await
    }
}

const CANCELED: i32 = Errno::ECANCELED as i32;

impl Machine for ThisMachine {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }

    fn since_boot(&self) -> Duration {
        keelson_sys::boot_clock::since_boot()
    }

    fn addresses(&self) -> BTreeSet<IpAddr> {
        let addresses = card_addresses(&self.links).unwrap_or_else(|error| {
            tracing::warn!("cannot list the machine's addresses: {error}");
            BTreeSet::new()
        });
        self.told.replace(addresses.clone());
        addresses
    }

    fn set_host_name(&self, name: &str) -> io::Result<()> {
        Ok(rustix::system::sethostname(name.as_bytes())?)
    }

    async fn news(&self) {
        loop {
            let news = tokio::select! {
                news = self.clock_news() => return report(news).await,
                news = self.address_news() => news,
            };
            // Pods come and go all day, with addresses on links that are no cards.
            let moved = card_addresses(&self.links).is_ok_and(|now| now != *self.told.borrow());
            if news.is_err() || moved {
                return report(news).await;
            }
        }
    }
}

/// A kernel that has no answer is asked again later, not at once.
async fn report(news: io::Result<()>) {
    if let Err(error) = news {
        tracing::warn!("cannot follow the clock and the addresses: {error}");
        tokio::time::sleep(RETRY).await;
    }
}

/// Sets the timer to the next look.
fn arm(timer: impl AsFd) -> io::Result<()> {
    let zero = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let now = clock_gettime(ClockId::Realtime);
    let next = Timespec {
        tv_sec: now.tv_sec.saturating_add(INTERVAL_SECONDS),
        ..now
    };
    timerfd_settime(
        timer,
        TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET,
        &Itimerspec {
            it_interval: zero,
            it_value: next,
        },
    )?;
    Ok(())
}

/// Addresses on devices: virtual links, those of pods among them, have none behind them.
fn card_addresses(links: &Path) -> io::Result<BTreeSet<IpAddr>> {
    let mut addresses = BTreeSet::new();
    for entry in nix::ifaddrs::getifaddrs()? {
        let Some(address) = entry.address else {
            continue;
        };
        let address = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
            (Some(v4), _) => IpAddr::V4(v4.ip()),
            (_, Some(v6)) => IpAddr::V6(v6.ip()),
            _ => continue,
        };
        let card = links.join(&entry.interface_name).join("device").exists();
        if card && can_be_called(address) {
            addresses.insert(address);
        }
    }
    Ok(addresses)
}

fn can_be_called(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        // Of no use without the name of the caller's own interface.
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !link_local && !address.is_loopback() && !address.is_unspecified() && !address.is_multicast()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_nobody_can_call_are_left_out() {
        for (text, expected) in [
            ("192.0.2.7", true),
            ("2001:db8::7", true),
            ("fd00::7", true),
            ("127.0.0.1", false),
            ("::1", false),
            ("169.254.7.7", false),
            ("fe80::1", false),
            ("0.0.0.0", false),
        ] {
            assert_eq!(can_be_called(text.parse().unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn links_without_a_device_are_no_cards() {
        let links = tempfile::tempdir().unwrap();
        assert_eq!(card_addresses(links.path()).unwrap(), BTreeSet::new());
    }

    #[tokio::test]
    async fn the_timer_goes_off_when_its_time_has_come() {
        let machine = ThisMachine::open("/sys/class/net".into()).unwrap();
        let past = Itimerspec {
            it_interval: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: Timespec {
                tv_sec: 1,
                tv_nsec: 0,
            },
        };
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        timerfd_settime(&machine.timer, flags, &past).unwrap();
        machine.clock_news().await.unwrap();
        // Armed again: nothing more for an hour.
        let again = tokio::time::timeout(Duration::from_millis(20), machine.clock_news()).await;
        assert!(again.is_err());
    }
}

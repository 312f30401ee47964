//! Why a domain stands still, in libvirt's words for it.

use virt::{
    domain::{
        Domain, DomainPausedReason, DomainPausedReasonEnum, DomainStateReason,
        DomainStateReasonEnum,
    },
    sys,
};

use crate::instance::Cause;

/// Why a domain stands still; none if it does not, or is gone.
pub(super) fn of(domain: &Domain) -> Option<Cause> {
    match domain.state() {
        Ok((_, DomainStateReasonEnum::Known(DomainStateReason::Paused(reason)))) => {
            Some(by_state(reason))
        }
        _ => None,
    }
}

/// From the reason that goes with the state `paused`.
fn by_state(reason: DomainPausedReasonEnum) -> Cause {
    let what = match reason {
        DomainPausedReasonEnum::Known(DomainPausedReason::IOError) => return Cause::Disk,
        DomainPausedReasonEnum::Known(DomainPausedReason::User) => BY_HAND,
        DomainPausedReasonEnum::Known(DomainPausedReason::Watchdog) => BY_WATCHDOG,
        DomainPausedReasonEnum::Known(DomainPausedReason::Crashed) => "the guest has crashed",
        other => return Cause::Other(format!("by libvirt (reason {})", other.to_raw())),
    };
    Cause::Other(what.to_owned())
}

/// From the detail that goes with the event `suspended`.
pub(super) fn by_event(detail: i32) -> Cause {
    let what = match sys::virDomainEventSuspendedDetailType::try_from(detail).unwrap_or_default() {
        sys::VIR_DOMAIN_EVENT_SUSPENDED_IOERROR => return Cause::Disk,
        sys::VIR_DOMAIN_EVENT_SUSPENDED_PAUSED => BY_HAND,
        sys::VIR_DOMAIN_EVENT_SUSPENDED_WATCHDOG => BY_WATCHDOG,
        _ => return Cause::Other(format!("by libvirt (detail {detail})")),
    };
    Cause::Other(what.to_owned())
}

const BY_HAND: &str = "by hand on its host, where `virsh resume` lets it go on";
const BY_WATCHDOG: &str = "by the guest's watchdog";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_paused_for_its_disk_is_for_us_to_resume() {
        let by_state = |number| by_state(DomainPausedReasonEnum::from_raw(number));
        assert_eq!((by_state(5), by_event(2)), (Cause::Disk, Cause::Disk));
        for other in (0..20).filter(|n| *n != 5) {
            assert_ne!(by_state(other), Cause::Disk, "{other}");
        }
        for other in (-1..20).filter(|n| *n != 2) {
            assert_ne!(by_event(other), Cause::Disk, "{other}");
        }
        assert_eq!(by_state(1), by_event(0), "by hand");
    }
}

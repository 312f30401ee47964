//! What libvirt says unasked. `virt` has no safe form of domain events: the few unsafe functions of
//! the Node Controller are here.

use std::{
    ffi::{CStr, c_int, c_void},
    sync::Once,
    thread,
    time::Duration,
};

use tokio::sync::mpsc;
use virt::{connect::Connect, error::Error, event, sys};

use super::{connection::spawn, paused};
use crate::{hypervisor::Happened, instance::End};

/// After a failed turn of the event loop, so that a lasting fault does not take a processor.
const LOOP_RETRY: Duration = Duration::from_millis(100);

type Teller = mpsc::Sender<Happened>;

/// Runs libvirt's event loop for the life of the process. Must come before the first connection.
pub(super) fn run_loop() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        if let Err(error) = event::event_register_default_impl() {
            tracing::error!(%error, "libvirt's event loop");
            return;
        }
        spawn("libvirt-events", || {
            loop {
                if event::event_run_default_impl().is_err() {
                    thread::sleep(LOOP_RETRY);
                }
            }
        });
    });
}

/// Has domain events of a connection told, for as long as it lives.
pub(super) fn subscribe(connect: &Connect, tell: &Teller) -> Result<(), Error> {
    register(
        connect,
        sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE,
        lifecycle_callback(),
        tell,
    )?;
    register(
        connect,
        sys::VIR_DOMAIN_EVENT_ID_REBOOT,
        Some(on_reset),
        tell,
    )
}

/// Two callbacks are registered on a connection, and libvirt numbers them from 0. A dead connection
/// refuses, after it has dropped them.
#[allow(unsafe_code)]
pub(super) fn unsubscribe(connect: &Connect) {
    for callback in 0..2 {
        // SAFETY: the pointer is valid while `connect` is borrowed; an unknown number is refused.
        unsafe { sys::virConnectDomainEventDeregisterAny(connect.as_ptr(), callback) };
    }
}

/// The lifecycle callback under the one type that libvirt registers all callbacks with.
#[allow(unsafe_code)]
fn lifecycle_callback() -> sys::virConnectDomainEventGenericCallback {
    type Lifecycle = unsafe extern "C" fn(
        sys::virConnectPtr,
        sys::virDomainPtr,
        c_int,
        c_int,
        *mut c_void,
    ) -> c_int;
    type Generic = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void);
    // SAFETY: libvirt casts it back to the type of the event that it is registered for
    // (VIR_DOMAIN_EVENT_CALLBACK in libvirt-domain.h), and calls it as such.
    Some(unsafe { std::mem::transmute::<Lifecycle, Generic>(on_lifecycle) })
}

#[allow(unsafe_code)]
fn register(
    connect: &Connect,
    event: sys::virDomainEventID,
    callback: sys::virConnectDomainEventGenericCallback,
    tell: &Teller,
) -> Result<(), Error> {
    let teller = Box::into_raw(Box::new(tell.clone())).cast::<c_void>();
    // SAFETY: the pointer is valid while `connect` is borrowed; a null domain means all; libvirt
    // owns `teller` from here and gives it back to `forget` exactly once, after the last callback.
    let number = unsafe {
        sys::virConnectDomainEventRegisterAny(
            connect.as_ptr(),
            std::ptr::null_mut(),
            c_int::try_from(event).unwrap_or_default(),
            callback,
            teller,
            Some(forget),
        )
    };
    if number < 0 {
        let error = Error::last_error();
        // SAFETY: a failed registration leaves the data with us.
        unsafe { forget(teller) };
        return Err(error);
    }
    Ok(())
}

#[allow(unsafe_code)]
unsafe extern "C" fn forget(teller: *mut c_void) {
    // SAFETY: made by `register` with Box::into_raw, and given back once.
    drop(unsafe { Box::from_raw(teller.cast::<Teller>()) });
}

#[allow(unsafe_code)]
unsafe extern "C" fn on_lifecycle(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    event: c_int,
    detail: c_int,
    teller: *mut c_void,
) -> c_int {
    // SAFETY: libvirt passes a live domain and what was registered.
    let (name, teller) = unsafe { (name_of(domain), &*teller.cast::<Teller>()) };
    if let Some(happened) = read_lifecycle(name, event, detail) {
        tell(teller, happened);
    }
    0
}

#[allow(unsafe_code)]
unsafe extern "C" fn on_reset(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    teller: *mut c_void,
) {
    // SAFETY: libvirt passes a live domain and what was registered.
    let (name, teller) = unsafe { (name_of(domain), &*teller.cast::<Teller>()) };
    tell(teller, Happened::Reset(name));
}

#[allow(unsafe_code)]
unsafe fn name_of(domain: sys::virDomainPtr) -> String {
    // SAFETY: the name belongs to the domain, which the caller keeps alive.
    let name = unsafe { sys::virDomainGetName(domain) };
    if name.is_null() {
        return String::new();
    }
    // SAFETY: not null, and libvirt ends its strings.
    unsafe { CStr::from_ptr(name) }
        .to_string_lossy()
        .into_owned()
}

/// Runs on libvirt's thread, which must not wait: what does not fit is found by the next look.
fn tell(teller: &Teller, happened: Happened) {
    if let Err(mpsc::error::TrySendError::Full(lost)) = teller.try_send(happened) {
        tracing::warn!(?lost, "an event of the hypervisor found no room");
    }
}

fn read_lifecycle(name: String, event: c_int, detail: c_int) -> Option<Happened> {
    match sys::virDomainEventType::try_from(event).ok()? {
        sys::VIR_DOMAIN_EVENT_STARTED => Some(Happened::Running(name)),
        sys::VIR_DOMAIN_EVENT_SUSPENDED => Some(Happened::Paused(name, paused::by_event(detail))),
        sys::VIR_DOMAIN_EVENT_RESUMED => Some(Happened::Resumed(name)),
        sys::VIR_DOMAIN_EVENT_STOPPED => {
            let detail = sys::virDomainEventStoppedDetailType::try_from(detail).ok()?;
            Some(Happened::Gone(name, end_of(detail)))
        }
        _ => None,
    }
}

fn end_of(detail: sys::virDomainEventStoppedDetailType) -> End {
    match detail {
        sys::VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN => End::PoweredOff,
        sys::VIR_DOMAIN_EVENT_STOPPED_DESTROYED => {
            End::Crashed("it was destroyed from outside the cloud".to_owned())
        }
        sys::VIR_DOMAIN_EVENT_STOPPED_CRASHED => End::Crashed("it crashed".to_owned()),
        sys::VIR_DOMAIN_EVENT_STOPPED_FAILED => {
            End::Crashed("its QEMU process ended unexpectedly".to_owned())
        }
        other => End::Crashed(format!("libvirt stopped it (detail {other})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::Cause;

    #[test]
    fn a_power_off_and_a_crash_are_told_apart_and_the_rest_is_no_end() {
        let read = |event, detail| read_lifecycle("i-1".to_owned(), event, detail);
        let gone = |end| Some(Happened::Gone("i-1".to_owned(), end));
        assert_eq!(read(5, 0), gone(End::PoweredOff));
        assert!(matches!(
            read(5, 5),
            Some(Happened::Gone(_, End::Crashed(_)))
        ));
        assert_eq!(read(2, 0), Some(Happened::Running("i-1".to_owned())));
        assert_eq!(
            read(3, 2),
            Some(Happened::Paused("i-1".to_owned(), Cause::Disk))
        );
        assert_eq!(read(4, 0), Some(Happened::Resumed("i-1".to_owned())));
        for other in [0, 1, 6, 7, 8, 99, -1] {
            assert_eq!(read(other, 0), None);
        }
    }
}

//! libvirt's events: one loop thread, three callbacks, one message.
//!
//! The `virt` crate has no event registration, so this file calls libvirt itself.
#![expect(unsafe_code, reason = "the virt crate cannot register for events")]

use std::os::raw::{c_char, c_int, c_void};
use std::sync::Once;
use std::sync::mpsc::Sender;

use virt::connect::Connect;
use virt::error::Error;
use virt::sys;

use super::Event;

/// Starts libvirt's default event loop on a thread of its own, once for the process.
pub(super) fn start_loop() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // libvirt prints each error on stderr unless told not to; ours come back as values.
        virt::error::clear_error_callback();
        if let Err(error) = virt::event::event_register_default_impl() {
            tracing::warn!(error = error.message(), "libvirt events are not available, looking periodically");
            return;
        }
        let spawned = std::thread::Builder::new()
            .name("libvirt-events".to_owned())
            .spawn(|| while virt::event::event_run_default_impl().is_ok() {});
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread for libvirt events, looking periodically");
        }
    });
}

/// Callbacks registered on a connection; taken back when dropped.
#[derive(Debug)]
pub(super) struct Subscription {
    connect: Connect,
    ids: Vec<c_int>,
}

type Generic = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void);

impl Subscription {
    /// Registers for domain life-cycle, device added, device removed, and for the end of the connection.
    pub(super) fn new(connect: &Connect, events: &Sender<Event>) -> Result<Self, Error> {
        let mut subscription = Self { connect: connect.clone(), ids: Vec::new() };
        // SAFETY: only the type of the function pointer changes; libvirt's documentation of
        // virConnectDomainEventRegisterAny asks for this cast and calls `on_lifecycle` with the
        // arguments of virConnectDomainEventCallback for the id it is registered for.
        let lifecycle = unsafe { std::mem::transmute::<*const (), Generic>(on_lifecycle as *const ()) };
        subscription.register(sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE, lifecycle, events)?;
        // SAFETY: as above, with virConnectDomainEventDeviceAddedCallback and -RemovedCallback,
        // which take the same arguments.
        let device = unsafe { std::mem::transmute::<*const (), Generic>(on_device as *const ()) };
        subscription.register(sys::VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, device, events)?;
        subscription.register(sys::VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, device, events)?;
        subscription.watch_close(events)?;
        Ok(subscription)
    }

    fn register(
        &mut self,
        id: sys::virDomainEventID,
        call: Generic,
        events: &Sender<Event>,
    ) -> Result<(), Error> {
        let opaque = into_opaque(events);
        let id = c_int::try_from(id).unwrap_or(c_int::MAX);
        // SAFETY: the connection lives as long as `self.connect` holds its reference; a null domain
        // means all domains; `opaque` is owned by libvirt from here on and freed by `free_sender`.
        let registered = unsafe {
            sys::virConnectDomainEventRegisterAny(
                self.connect.as_ptr(),
                std::ptr::null_mut(),
                id,
                Some(call),
                opaque,
                Some(free_sender),
            )
        };
        if registered < 0 {
            // SAFETY: libvirt did not take it: it calls the free function only for what it registered.
            unsafe { free_sender(opaque) };
            return Err(Error::last_error());
        }
        self.ids.push(registered);
        Ok(())
    }

    fn watch_close(&self, events: &Sender<Event>) -> Result<(), Error> {
        let opaque = into_opaque(events);
        // SAFETY: as in `register`.
        let done = unsafe {
            sys::virConnectRegisterCloseCallback(
                self.connect.as_ptr(),
                Some(on_close),
                opaque,
                Some(free_sender),
            )
        };
        if done < 0 {
            // SAFETY: not taken, so still ours.
            unsafe { free_sender(opaque) };
            return Err(Error::last_error());
        }
        Ok(())
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        for id in &self.ids {
            // SAFETY: each id was returned by a registration on this connection and is given back once.
            unsafe { sys::virConnectDomainEventDeregisterAny(self.connect.as_ptr(), *id) };
        }
        // SAFETY: the connection is alive; an absent callback is an ordinary error that nobody reads.
        unsafe { sys::virConnectUnregisterCloseCallback(self.connect.as_ptr(), Some(on_close)) };
    }
}

fn into_opaque(events: &Sender<Event>) -> *mut c_void {
    Box::into_raw(Box::new(events.clone())).cast()
}

fn send(opaque: *mut c_void, event: Event) {
    // SAFETY: `opaque` came from `into_opaque` and libvirt frees it only after the last callback.
    let sender = unsafe { &*opaque.cast::<Sender<Event>>() };
    // A receiver that is gone belongs to a service that stops.
    let _ = sender.send(event);
}

unsafe extern "C" fn on_lifecycle(
    _: sys::virConnectPtr,
    _: sys::virDomainPtr,
    _: c_int,
    _: c_int,
    opaque: *mut c_void,
) -> c_int {
    send(opaque, Event::Look);
    0
}

unsafe extern "C" fn on_device(
    _: sys::virConnectPtr,
    _: sys::virDomainPtr,
    _: *const c_char,
    opaque: *mut c_void,
) {
    send(opaque, Event::Look);
}

unsafe extern "C" fn on_close(_: sys::virConnectPtr, _: c_int, opaque: *mut c_void) {
    send(opaque, Event::Closed);
}

unsafe extern "C" fn free_sender(opaque: *mut c_void) {
    // SAFETY: called once for each pointer made by `into_opaque`, after its last use.
    drop(unsafe { Box::from_raw(opaque.cast::<Sender<Event>>()) });
}

//! The domain's XML, top down as libvirt documents it. All text passes through quick-xml's
//! escaping, so nothing that comes from outside can end an attribute or an element.

use std::path::Path;

use base64::{Engine, engine::general_purpose::STANDARD};
use quick_xml::{
    Writer,
    events::{BytesEnd, BytesStart, BytesText, Event},
};

use super::{Accel, Domain, Nic, XML_NAMESPACE};
use crate::needs::{Disk, DiskFile};

/// The machine type: with i440fx a volume can be plugged in with no root port set aside for it.
const MACHINE: &str = "pc";
/// libvirt's own namespace for what is QEMU's alone.
const QEMU_NAMESPACE: &str = "http://libvirt.org/schemas/domain/qemu/1.0";
/// How systemd finds root's keys among the strings of an SMBIOS (systemd.system-credentials(7)).
const ROOT_KEY: &str = "io.systemd.credential.binary:ssh.authorized_keys.root";
/// How the guest's disks are called, in their order.
const DISK_LETTERS: &[u8; 26] = b"abcdefghijklmnopqrstuvwxyz";

/// An element: enough of XML for a domain.
struct Element {
    name: &'static str,
    attributes: Vec<(&'static str, String)>,
    text: String,
    children: Vec<Element>,
}

fn el(name: &'static str) -> Element {
    Element {
        name,
        attributes: Vec::new(),
        text: String::new(),
        children: Vec::new(),
    }
}

fn text(name: &'static str, text: impl ToString) -> Element {
    Element {
        text: text.to_string(),
        ..el(name)
    }
}

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

impl Element {
    fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.attributes.push((name, value.to_string()));
        self
    }

    fn holding(mut self, children: impl IntoIterator<Item = Self>) -> Self {
        self.children.extend(children);
        self
    }

    fn write(&self, writer: &mut Writer<Vec<u8>>) -> std::io::Result<()> {
        let attributes = self
            .attributes
            .iter()
            .map(|(name, value)| (*name, value.as_str()));
        let start = BytesStart::new(self.name).with_attributes(attributes);
        if self.children.is_empty() && self.text.is_empty() {
            return writer.write_event(Event::Empty(start));
        }
        writer.write_event(Event::Start(start))?;
        if !self.text.is_empty() {
            writer.write_event(Event::Text(BytesText::new(&self.text)))?;
        }
        for child in &self.children {
            child.write(writer)?;
        }
        writer.write_event(Event::End(BytesEnd::new(self.name)))
    }
}

impl Domain {
    /// The domain as libvirt reads it.
    pub fn xml(&self) -> String {
        let mut writer = Writer::new_with_indent(Vec::new(), b' ', 1);
        self.domain()
            .write(&mut writer)
            .expect("writing to memory cannot fail");
        String::from_utf8(writer.into_inner()).expect("made of strings")
    }

    fn domain(&self) -> Element {
        let kind = match self.host.accel {
            Accel::Kvm => "kvm",
            Accel::Tcg => "qemu",
        };
        let domain = el("domain").with("type", kind).holding([
            text("name", &self.instance),
            text("uuid", self.uuid()),
            el("metadata").holding([self.mark()]),
            text("memory", self.memory.0).with("unit", "MiB"),
            text("vcpu", self.vcpus).with("placement", "static"),
            self.sysinfo(),
            self.os(),
            el("features").holding([el("acpi"), el("apic")]),
            self.cpu(),
            self.clock(),
            text("on_poweroff", "destroy"),
            text("on_reboot", "restart"),
            text("on_crash", "destroy"),
            self.devices(),
        ]);
        domain.holding(self.unasked())
    }

    /// What libvirt is told that QEMU cannot say, so that it does not ask. At each start it asks for the
    /// processor's features one by one, some 290 of them, of a monitor that reads byte by byte: two thirds
    /// of a start, to check what `maximum` leaves to QEMU. It then reads them as registers, in two questions.
    /// Not under KVM: there `host-model` may hold features of MSRs, which libvirt refuses without this.
    fn unasked(&self) -> Option<Element> {
        let features = el("qemu:del").with("capability", "cpu-unavailable-features");
        let unasked = el("qemu:capabilities").with("xmlns:qemu", QEMU_NAMESPACE);
        matches!(self.host.accel, Accel::Tcg).then(|| unasked.holding([features]))
    }

    /// Says whose the domain is, for whoever finds it.
    fn mark(&self) -> Element {
        el("mallee:instance")
            .with("xmlns:mallee", XML_NAMESPACE)
            .with("node", &self.host.node)
            .with("epoch", self.epoch)
    }

    fn sysinfo(&self) -> Element {
        let entry = |name: &str, value: &str| text("entry", value).with("name", name);
        let system = el("system").holding([
            entry("manufacturer", "Mallee"),
            entry("product", "Mallee instance"),
            entry("serial", &self.uuid()),
            entry("uuid", &self.uuid()),
        ]);
        let key = self.boot.root_key.as_deref().map(|lines| {
            let lines = STANDARD.encode(lines);
            el("oemStrings").holding([text("entry", format!("{ROOT_KEY}={lines}"))])
        });
        let sysinfo = el("sysinfo").with("type", "smbios");
        sysinfo.holding([system]).holding(key)
    }

    fn os(&self) -> Element {
        let os = el("os").holding([text("type", "hvm")
            .with("arch", "x86_64")
            .with("machine", MACHINE)]);
        let os = match (&self.boot.kernel, self.cmdline()) {
            (Some(kernel), Some(cmdline)) => os
                .holding([text("kernel", path(&kernel.kernel))])
                .holding(
                    kernel
                        .ramdisk
                        .as_deref()
                        .map(|ramdisk| text("initrd", path(ramdisk))),
                )
                .holding([text("cmdline", cmdline)]),
            _ => os.holding([el("boot").with("dev", "hd")]),
        };
        os.holding([el("smbios").with("mode", "sysinfo")])
    }

    fn cpu(&self) -> Element {
        match self.host.accel {
            Accel::Kvm => el("cpu").with("mode", "host-model"),
            // `-cpu max`: the tiny guest boots in 3.1 CPU seconds with it, in 4.5 without.
            Accel::Tcg => el("cpu").with("mode", "maximum"),
        }
    }

    fn clock(&self) -> Element {
        let timer = |name: &str| el("timer").with("name", name);
        let clock = el("clock").with("offset", "utc");
        match self.host.accel {
            Accel::Kvm => clock.holding([
                timer("rtc").with("tickpolicy", "catchup"),
                timer("pit").with("tickpolicy", "delay"),
                timer("hpet").with("present", "no"),
            ]),
            Accel::Tcg => clock,
        }
    }

    fn devices(&self) -> Element {
        let disks = self
            .boot
            .disks
            .iter()
            .zip(DISK_LETTERS)
            .map(|(disk, l)| self.disk(disk, *l));
        let display = el("graphics")
            .with("type", "vnc")
            .with("port", -1)
            .with("autoport", "yes")
            .with("listen", "127.0.0.1");
        el("devices")
            .holding([text("emulator", path(&self.host.emulator))])
            .holding(disks)
            .holding(self.nic.as_ref().map(interface))
            .holding([
                el("controller").with("type", "usb").with("model", "none"),
                self.serial(),
                rng(),
                el("memballoon").with("model", "none"),
            ])
            .holding(self.host.vnc.then_some(display))
    }

    fn disk(&self, disk: &Disk, letter: u8) -> Element {
        let driver = el("driver")
            .with("name", "qemu")
            .with("type", disk.file.format.as_str())
            .with("cache", self.host.cache.as_str())
            .with("discard", "unmap")
            // A fault of the host is not the guest's: it stands still with its request kept, and asks
            // again when it is resumed. QEMU itself would hand any error but a full disk to the guest.
            .with("error_policy", "stop")
            .with("rerror_policy", "stop");
        el("disk")
            .with("type", "file")
            .with("device", "disk")
            .holding([driver, source(&disk.file), backing(disk.backing.as_ref())])
            .holding([el("target")
                .with("dev", format!("vd{}", char::from(letter)))
                .with("bus", "virtio")])
            .holding(disk.serial.as_ref().map(|serial| text("serial", serial)))
    }

    fn serial(&self) -> Element {
        el("serial").with("type", "pty").holding([
            el("log")
                .with("file", path(&self.console_log))
                .with("append", "on"),
            el("target").with("type", "isa-serial").with("port", 0),
        ])
    }
}

fn source(file: &DiskFile) -> Element {
    el("source").with("file", path(&file.path))
}

/// The whole chain is named, down to its empty end: QEMU and libvirt look into no file to find out.
fn backing(file: Option<&DiskFile>) -> Element {
    let end = el("backingStore");
    match file {
        None => end,
        Some(file) => end.with("type", "file").holding([
            el("format").with("type", file.format.as_str()),
            source(file),
            el("backingStore"),
        ]),
    }
}

fn interface(nic: &Nic) -> Element {
    el("interface").with("type", "bridge").holding([
        el("mac").with("address", nic.mac),
        el("source").with("bridge", &nic.bridge),
        el("target").with("dev", &nic.tap),
        el("model").with("type", "virtio"),
        el("mtu").with("size", nic.mtu),
    ])
}

fn rng() -> Element {
    el("rng")
        .with("model", "virtio")
        .holding([text("backend", "/dev/urandom").with("model", "random")])
}

//! The hardware tower against a fake kernel: every step, every errno, guards, helpers, hangs.

#[cfg(test)]
mod support;

#[cfg(test)]
mod hardware {
    use vgpud::inventory::{ScanOptions, scan};
    use vgpud::sysfs::Sysfs;

    use crate::support::fake::FakeKernel;
    use crate::support::spec::HostSpec;

    #[test]
    fn the_lab_is_read() {
        let host = FakeKernel::mount(HostSpec::lab());
        let snapshot = scan(&Sysfs::new(host.root()), &ScanOptions::default());
        println!("{}", serde_json::to_string_pretty(&snapshot).expect("json"));
        assert_eq!(snapshot.gpus.len(), 3);
    }
}

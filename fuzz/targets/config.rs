//! `/etc/vgpud/vgpud.toml`.

use std::fs::write;
use std::sync::OnceLock;

use tempfile::TempDir;
use vgpud::config::{Config, Paths};
use vgpud::model::{Kind, Refusal};

pub(super) fn run(data: &[u8]) {
    static ROOT: OnceLock<TempDir> = OnceLock::new();
    let root = ROOT.get_or_init(|| {
        let root = TempDir::new().expect("temporary directory");
        std::fs::create_dir_all(root.path().join("etc/vgpud")).expect("directory");
        root
    });
    let paths = Paths::new(Some(root.path().into()), None, None);
    write(paths.config_file(), data).expect("configuration file");
    if let Err(error) = Config::load(&paths) {
        // As the service logs it.
        super::assert_one_line(&Refusal::from_error(Kind::Usage, &error).to_string());
    }
}

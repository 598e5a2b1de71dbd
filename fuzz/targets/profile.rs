//! Profile files.

use vgpud::profile::{parse, print, validate};

pub(super) fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let name = "desk".parse().expect("a name");
    match parse(name, &text) {
        Ok(profile) => {
            assert_eq!(validate(&profile), Ok(()));
            let printed = print(&profile);
            assert_eq!(parse(profile.name.clone(), &printed).as_ref(), Ok(&profile), "{printed}");
            let body = serde_json::to_string(&profile).expect("json");
            assert_eq!(serde_json::from_str::<vgpud::model::Profile>(&body).ok(), Some(profile), "{body}");
        }
        Err(error) => super::assert_one_line(&error.to_string()),
    }
}

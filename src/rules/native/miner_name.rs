//! C.MINERNAME and `M.OFN_MINER`: a mining program by file name or version data, and one that hides behind another file name.

use super::Check;
use crate::{
    model::{code::Code, fact::Fact, group::base_name, names},
    rules::{Ruleset, excerpt, fields::Category},
};

pub(super) const NAMED: Check = Check {
    id: "coalface-native-miner-name",
    version: 1,
    title: "Name of a mining program",
    description: "File name, original file name, product or description is that of a mining program (ExecutableNamePatterns).",
    code: Code::CMinerName,
    categories: &[Category::ProcessCreation],
    run: named,
    fires: &[
        (Category::ProcessCreation, &[("Image", r"C:\Users\Public\xmrig.exe")]),
        (Category::ProcessCreation, &[("Image", r"C:\Users\Public\m.exe"), ("OriginalFileName", "xmrig.exe")]),
        (Category::ProcessCreation, &[("Image", r"C:\Users\Public\m.exe"), ("Product", "XMRig")]),
        (Category::ProcessCreation, &[("Image", r"C:\Users\Public\m.exe"), ("Description", "XMRig miner")]),
    ],
    silent: &[
        (Category::ProcessCreation, &[("Image", r"C:\Program Files\Vendor\examiner.exe"), ("Product", "Data Miner")]),
        (Category::ProcessCreation, &[("Image", r"C:\Users\kim\xmrig\notes.exe")]),
        (Category::ProcessCreation, &[("CommandLine", "findstr xmrig.exe")]),
    ],
};

pub(super) const RENAMED: Check = Check {
    id: "coalface-native-renamed-miner",
    version: 1,
    title: "Mining program under another name",
    description: "Version data name a mining program, the file name does not.",
    code: Code::MOfnMiner,
    categories: &[Category::ProcessCreation],
    run: renamed,
    fires: &[
        (
            Category::ProcessCreation,
            &[("Image", r"C:\ProgramData\OneDriveSync.exe"), ("OriginalFileName", "xmrig.exe")],
        ),
        (Category::ProcessCreation, &[("Image", r"C:\ProgramData\a.exe"), ("Product", "XMRig")]),
    ],
    silent: &[
        (Category::ProcessCreation, &[("Image", r"C:\Tools\xmrig.exe"), ("OriginalFileName", "xmrig.exe")]),
        (Category::ProcessCreation, &[("Image", r"C:\Tools\a.exe"), ("OriginalFileName", "a.exe")]),
        (Category::ProcessCreation, &[("OriginalFileName", "xmrig.exe")]),
    ],
};

fn version_data(fact: &Fact) -> Option<(&'static str, &str)> {
    let Fact::ProcessStart(start) = fact else { return None };
    [("original name", &start.original_file_name), ("product", &start.product), ("description", &start.description)]
        .into_iter()
        .find_map(|(what, text)| text.as_deref().filter(|t| names::is_miner_name(t)).map(|t| (what, t)))
}

fn image_of(fact: &Fact) -> Option<&str> {
    match fact {
        Fact::ProcessStart(start) => start.image.as_deref(),
        _ => None,
    }
}

fn named(fact: &Fact, _rules: &Ruleset) -> Option<String> {
    if let Some(image) = image_of(fact).filter(|image| names::is_miner_name(image)) {
        return Some(excerpt::around(image, 0..0));
    }
    version_data(fact).map(|(what, text)| excerpt::around(&format!("{what}: {text}"), 0..0))
}

fn renamed(fact: &Fact, _rules: &Ruleset) -> Option<String> {
    let image = image_of(fact).filter(|image| !names::is_miner_name(image))?;
    let (what, text) = version_data(fact)?;
    Some(excerpt::around(&format!("{}: {what}: {text}", base_name(image)), 0..0))
}

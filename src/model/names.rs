//! Tables of names that detection compares with: system binaries and their folders, code hosts, miners, well-known folders.
//!
//! Source: detection design, sections 2, 3 and 5 (settings `Image`, `ExecutableNamePatterns`, `CodeHosts`, `UserWritablePaths`);
//! file names and folders are those of Windows 10 22H2 and Server 2022.

use crate::model::group::{base_name, comparable_path, folder};
use regex::Regex;
use std::sync::LazyLock;

/// Binaries of Windows that attackers imitate. All belong below the Windows folder.
pub const SYSTEM_NAMES: &[&str] = &[
    "svchost.exe", "lsass.exe", "csrss.exe", "smss.exe", "wininit.exe", "winlogon.exe", "services.exe", "explorer.exe",
    "taskhostw.exe", "taskhost.exe", "taskeng.exe", "dllhost.exe", "conhost.exe", "dwm.exe", "spoolsv.exe", "sihost.exe",
    "runtimebroker.exe", "searchindexer.exe", "searchprotocolhost.exe", "searchfilterhost.exe", "audiodg.exe", "fontdrvhost.exe",
    "ctfmon.exe", "userinit.exe", "rundll32.exe", "regsvr32.exe", "wmiprvse.exe", "scrcons.exe", "wudfhost.exe", "msdtc.exe",
    "lsaiso.exe", "trustedinstaller.exe", "tiworker.exe", "wuauclt.exe", "usoclient.exe", "wermgr.exe", "werfault.exe",
    "smartscreen.exe", "securityhealthservice.exe", "compattelrunner.exe", "backgroundtaskhost.exe", "vmcompute.exe", "vmwp.exe",
    "wsmprovhost.exe", "cmd.exe", "powershell.exe", "wscript.exe", "cscript.exe", "mshta.exe", "schtasks.exe", "certutil.exe",
    "bitsadmin.exe", "msiexec.exe", "taskmgr.exe", "regedit.exe", "notepad.exe", "logonui.exe", "lsm.exe", "dashost.exe",
    "sppsvc.exe", "systemsettings.exe", "applicationframehost.exe",
];

const SYSTEM_FOLDERS: &[&str] = &[
    "\\windows\\system32", "\\windows\\syswow64", "\\windows\\winsxs", "\\windows\\servicing", "\\$windows.~bt",
    "\\windows\\softwaredistribution", "\\windows\\systemtemp", "\\windows\\uus", "\\windows.old",
    "\\programdata\\docker\\windowsfilter", "\\programdata\\microsoft\\windows\\containers",
    // Settings and the store's Notepad live here; only TrustedInstaller writes to either.
    "\\windows\\immersivecontrolpanel", "\\program files\\windowsapps",
];

/// Whether a comparable path lies in a folder where Windows keeps its own binaries.
pub fn in_system_folder(path: &str) -> bool {
    let dir = folder(path);
    let dir = dir.get(2..).filter(|_| dir.get(1..2) == Some(":")).unwrap_or(dir);
    let dir = match dir.strip_prefix("\\device\\harddiskvolume") {
        Some(rest) => rest.find('\\').and_then(|n| rest.get(n..)).unwrap_or(""),
        None => dir,
    };
    SYSTEM_FOLDERS.iter().any(|f| dir.strip_prefix(f).is_some_and(|rest| rest.is_empty() || rest.starts_with('\\')))
        || (base_name(path) == "explorer.exe" || base_name(path) == "regedit.exe" || base_name(path) == "notepad.exe")
            && (dir == "\\windows")
}

/// A system name outside its allowed folders.
pub fn is_misplaced_system_name(path: &str) -> bool {
    let path = comparable_path(path);
    // A bare name says nothing about the folder.
    path.contains('\\') && SYSTEM_NAMES.contains(&base_name(&path)) && !in_system_folder(&path)
}

const CODE_HOSTS: &[&str] = &[
    "powershell.exe", "powershell_ise.exe", "cmd.exe", "wscript.exe", "cscript.exe", "mshta.exe", "rundll32.exe", "regsvr32.exe",
    "dllhost.exe", "svchost.exe", "msbuild.exe", "installutil.exe", "regasm.exe", "regsvcs.exe", "vbc.exe", "addinprocess.exe",
    "notepad.exe", "nslookup.exe", "tracert.exe", "wuapp.exe", "explorer.exe",
];
const CODE_HOSTS_ANYWHERE: &[&str] = &["pwsh.exe", "node.exe", "python.exe", "pythonw.exe", "java.exe", "javaw.exe", "msbuild.exe"];

/// Programs that run other people's code. System names count only in their proper place.
pub fn is_code_host(path: &str) -> bool {
    let path = comparable_path(path);
    let name = base_name(&path);
    CODE_HOSTS_ANYWHERE.contains(&name)
        || CODE_HOSTS.contains(&name)
            && (in_system_folder(&path) || folder(&path).contains("\\windows\\microsoft.net\\framework") || !path.contains('\\'))
}

/// Names of mining programs, as regular expressions (`ExecutableNamePatterns` as shipped). Source: detection design, section 2.
pub const MINERS: &[&str] = &[
    "xmrig", "xmr-stak", "cpuminer", "minerd", "ccminer", "cgminer", "bfgminer", "sgminer", "ethminer", "phoenixminer", "nbminer", "t-rex",
    "lolminer", "gminer", "teamredminer", "srbminer", "nanominer", "bzminer", "rigel", "wildrig", "claymore", "nheqminer", "nicehash", "minergate",
];

/// What mining programs add to their names: version, platform, variant.
const SUFFIX: &str = r"(?:[-_. ]?(?:[0-9][\w.]*|cuda|amd|nvidia|notls|mo|multi|proxy|miner|cli|gui|opt|avx2?|sse2|x64|x86|win64|quick ?miner))*(?:\.exe)?";

/// Patterns of program names: a whole base name, with the suffixes that builds add.
#[derive(Debug, Clone)]
pub struct NamePatterns(Regex);

impl NamePatterns {
    /// From regular expressions; an empty list matches nothing.
    ///
    /// # Errors
    /// Names what the expression lacks.
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self, Box<regex::Error>> {
        let any = patterns.iter().map(|p| format!("(?:{})", p.as_ref())).collect::<Vec<_>>().join("|");
        let whole = if patterns.is_empty() { "[^\\s\\S]".to_owned() } else { format!("(?i)^(?:{any}){SUFFIX}$") };
        Ok(Self(regex::RegexBuilder::new(&whole).size_limit(1 << 20).build()?))
    }

    /// Whether a base name, product or description is meant. Of several words the first counts, if the text speaks of a miner.
    pub fn matches(&self, name: &str) -> bool {
        let name = base_name(name.trim());
        let first_word = || name.split(' ').next().filter(|first| *first != name && first.len() > 4 && name.to_lowercase().contains("miner"));
        !name.is_empty() && (self.0.is_match(name) || first_word().is_some_and(|first| self.0.is_match(first)))
    }
}

static MINER: LazyLock<NamePatterns> = LazyLock::new(|| NamePatterns::new(MINERS).expect("constant patterns"));

/// Whole base name or product of a mining program (`ExecutableNamePatterns` as shipped).
pub fn is_miner_name(name: &str) -> bool {
    MINER.matches(name)
}

const USER_WRITABLE: &[&str] = &[
    "\\users\\", "\\programdata\\", "\\windows\\temp\\", "\\windows\\fonts\\", "\\windows\\tasks\\", "\\windows\\debug\\",
    "\\windows\\tracing\\", "\\windows\\system32\\tasks\\", "\\windows\\system32\\spool\\drivers\\color\\", "\\perflogs\\",
    "\\$recycle.bin\\", "\\inetpub\\temp\\", "\\temp\\",
];

/// Folders where ordinary users may write (`UserWritablePaths`).
pub fn is_user_writable(path: &str) -> bool {
    let path = comparable_path(path);
    let rest = path.get(2..).filter(|_| path.get(1..2) == Some(":")).unwrap_or(&path);
    USER_WRITABLE.iter().any(|f| rest.starts_with(f))
}

/// Makers whose version data is believed where a signature is not known (`TrustedVendors`): an attacker would have to claim them.
const TRUSTED_VENDORS: &[&str] = &[
    "microsoft", "google", "mozilla", "adobe", "intel", "nvidia", "amd", "oracle", "apple", "cisco", "vmware", "citrix", "zoom video",
    "the git development community", "node.js", "python software foundation", "jetbrains", "docker", "elasticsearch",
];

/// Whether version data names a trusted vendor.
pub fn is_trusted_vendor(company: &str) -> bool {
    let company = company.trim().to_lowercase();
    TRUSTED_VENDORS.iter().any(|v| company.starts_with(v))
}

/// Whether a signer is who version data names: both begin with the same trusted vendor.
pub fn is_same_vendor(company: &str, signer: &str) -> bool {
    let (company, signer) = (company.trim().to_lowercase(), signer.trim().to_lowercase());
    TRUSTED_VENDORS.iter().filter(|v| company.starts_with(*v)).any(|v| signer.contains(v) || company.split([' ', ',']).next().is_some_and(|word| signer.contains(word)))
}

/// One unsigned image under so many names on the fleet is disguised. Source: detection design, section 5 M.
pub const MANY_NAMES: i64 = 3;

/// A file's name without extension, trailing digits and what Windows adds to copies: ` (2)`, ` - Copy`. Lower case.
pub fn copy_stem(name: &str) -> String {
    let stem = stem(name);
    let stem = stem.split(" - copy").next().unwrap_or(&stem);
    stem.split(" (").next().unwrap_or(stem).trim().to_owned()
}

/// A file's name without extension and trailing digits, lower case.
pub fn stem(name: &str) -> String {
    let name = base_name(name).trim().to_lowercase();
    let name = name.strip_suffix(".mui").unwrap_or(&name);
    let name = name.strip_suffix(".exe").or_else(|| name.strip_suffix(".dll")).unwrap_or(name);
    name.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '_')).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn miners_are_known_by_their_whole_name_with_a_suffix() {
        for name in ["xmrig.exe", "XMRig", "xmrig-notls.exe", "t-rex.exe", "lolMiner.exe", "SRBMiner-MULTI.exe", "XMRig miner", r"C:\x\nbminer.exe"] {
            assert!(is_miner_name(name), "{name}");
        }
        for name in ["rigel-report-viewer", "trex.exe", "claymorean.exe", "examiner.exe", "minerva.exe", "nicehashing notes.txt", ""] {
            assert!(!is_miner_name(name), "{name}");
        }
    }

    #[test]
    fn system_names_belong_below_windows() {
        for path in [r"C:\Windows\System32\svchost.exe", r"C:\Windows\explorer.exe", r"\Device\HarddiskVolume4\Windows\System32\svchost.exe",
            r"C:\Windows\WinSxS\amd64_x\TiWorker.exe", "svchost.exe", r"C:\Windows\System32\wbem\WmiPrvSE.exe"] {
            assert!(!is_misplaced_system_name(path), "{path}");
        }
        for path in [r"C:\ProgramData\Microsoft\svchost.exe", r"C:\Windows\svchost.exe", r"C:\Windows\System32x\lsass.exe", r"C:\Users\a\explorer.exe"] {
            assert!(is_misplaced_system_name(path), "{path}");
        }
    }

    #[test]
    fn writable_folders_are_those_of_users() {
        assert!(is_user_writable(r"C:\Users\Public\m.exe"));
        assert!(is_user_writable(r"C:\Windows\Temp\k.exe"));
        assert!(is_user_writable(r"D:\Temp\k.exe"));
        assert!(!is_user_writable(r"C:\Program Files\Temp\k.exe"));
        assert!(!is_user_writable(r"C:\agent2\bin\x.exe"));
    }
}

//! The rules that ship with the program, embedded at compile time. A test compares the list with the folder.

macro_rules! embedded {
    ($($file:literal),* $(,)?) => {
        &[$( (concat!("rules/", $file), include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/rules/", $file))) ),*]
    };
}

/// File name below the repository and text.
pub(super) const RULES: &[(&str, &str)] = embedded![
    "auxiliary/exclusion_command.yml",
    "auxiliary/exclusion_set.yml",
    "auxiliary/firewall_command.yml",
    "auxiliary/firewall_rule.yml",
    "auxiliary/lock_memory.yml",
    "auxiliary/malware_threat.yml",
    "auxiliary/miner_threat.yml",
    "auxiliary/protection_off.yml",
    "auxiliary/protection_off_command.yml",
    "auxiliary/winring0_driver.yml",
    "auxiliary/winring0_service.yml",
    "command/download_cradle.yml",
    "command/encoded_command.yml",
    "command/escaped_words.yml",
    "command/miner_flag.yml",
    "command/miner_flag_soft.yml",
    "command/script_block.yml",
    "command/wallet.yml",
    "command/wallet_soft.yml",
    "masquerade/extension_trick.yml",
    "masquerade/image_replaced.yml",
    "masquerade/module_beside_image.yml",
    "masquerade/system_module_elsewhere.yml",
    "masquerade/written_from_user_folder.yml",
    "network/stratum_seen.yml",
];

//! Symlinks (BEP 47): where they lead, for whoever wants to look.

use std::collections::BTreeMap;

use super::{Kind, Metainfo, MetainfoError, v1, v2};
use crate::bencode::{self, Rules, Value};

impl Metainfo {
    /// Where symlinks lead, by their index in [`files`](Self::files), as the torrent says and not
    /// made harmless in any way: to be shown with care, and never to be followed. Reads the info
    /// dictionary anew.
    pub fn symlink_targets(&self) -> BTreeMap<usize, String> {
        // It was read once without an error, so none can come.
        self.read_symlink_targets().unwrap_or_default()
    }

    fn read_symlink_targets(&self) -> Result<BTreeMap<usize, String>, MetainfoError> {
        let value = bencode::decode(&self.raw_info, &Rules::METAINFO)?;
        let info = value.as_dict().ok_or(MetainfoError::WrongType("info"))?;
        let len = self.raw_info.len();
        let list = match self.kind {
            Kind::V2 => v2::files(info, len, self.geometry.piece_length(), true)?,
            Kind::V1 | Kind::Hybrid => v1::files(info, len, self.name.as_bytes())?,
        };
        let links = self.files.iter().zip(list.files()).enumerate();
        let links = links.filter(|(_, (entry, _))| entry.symlink);
        Ok(links
            .filter_map(|(index, (_, described))| {
                let parts = described.target?.iter().filter_map(Value::as_bytes);
                let target = parts.collect::<Vec<_>>().join(&b'/');
                Some((index, String::from_utf8_lossy(&target).into_owned()))
            })
            .collect())
    }
}

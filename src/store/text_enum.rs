//! Closed lists that are stored as words: one macro gives the word and the way back.

/// Declares an enum whose variants are stored as the words given.
macro_rules! text_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$doc])* $variant),+ }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word that is stored.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// Reads the stored word back.
            ///
            /// # Errors
            /// [`StoreError::Corrupt`](crate::store::StoreError::Corrupt) when `column` holds another word.
            pub(crate) fn read(row: &$crate::store::Row, column: &str) -> Result<Self, $crate::store::StoreError> {
                let word = row.text(column)?;
                Self::ALL.iter().copied().find(|known| known.as_str() == word).ok_or_else(|| {
                    $crate::store::StoreError::Corrupt { column: column.to_owned(), reason: format!("unknown word {word}") }
                })
            }
        }
    };
}

pub(crate) use text_enum;

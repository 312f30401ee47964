//! A guest of 93 bytes: a boot sector that says hello on its serial port and echoes what is typed.
//! `q` powers it off, `r` resets it, and after `a` it obeys the power button, by the PIIX4's
//! registers (PM1a status 0x600, enable 0x602, control 0x604).
//!
//! ```text
//!         cli; xor ax,ax; mov ds,ax; mov ss,ax; mov sp,0x7c00; cld; sti
//!         mov dx,0x3f8; mov si,hello
//! 1:      lodsb; test al,al; jz main; out dx,al; jmp 1b
//! main:   hlt                                              ; a busy guest would starve QEMU
//! next:   mov dx,0x600; in ax,dx; test ah,1; jnz off       ; button pressed?
//!         mov dx,0x3fd; in al,dx; test al,1; jz main       ; key typed?
//!         mov dx,0x3f8; in al,dx; out dx,al                ; echo
//!         cmp al,'q'; je off
//!         cmp al,'r'; je reset
//!         cmp al,'a'; jne next
//!         mov dx,0x602; mov ax,0x100; out dx,ax; jmp next  ; heed the button
//! off:    mov dx,0x604; mov ax,0x2000; out dx,ax; jmp main ; soft off
//! reset:  mov al,0xfe; out 0x64,al; jmp $
//! hello:  db "hello\r\n",0
//! ```

use std::path::{Path, PathBuf};

use nc::needs::{BootDisks, Disk, DiskFile, DiskFormat};

/// The disk's file.
pub(crate) const FILE: &str = "disk.raw";

const CODE: [u8; 93] = [
    0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xd0, 0xbc, 0x00, 0x7c, 0xfc, 0xfb, 0xba, 0xf8, 0x03, 0xbe,
    0x55, 0x7c, 0xac, 0x84, 0xc0, 0x74, 0x03, 0xee, 0xeb, 0xf8, 0xf4, 0xba, 0x00, 0x06, 0xed, 0xf6,
    0xc4, 0x01, 0x75, 0x22, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xee, 0xba, 0xf8, 0x03, 0xec,
    0xee, 0x3c, 0x71, 0x74, 0x11, 0x3c, 0x72, 0x74, 0x16, 0x3c, 0x61, 0x75, 0xde, 0xba, 0x02, 0x06,
    0xb8, 0x00, 0x01, 0xef, 0xeb, 0xd5, 0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, 0xeb, 0xcb, 0xb0,
    0xfe, 0xe6, 0x64, 0xeb, 0xfe, 0x68, 0x65, 0x6c, 0x6c, 0x6f, 0x0d, 0x0a, 0x00,
];

/// Another, of 56 bytes: eighteen times a second it writes a sector 64 KiB further on its disk, all
/// around 32 MiB, and says `w` when that went well and `e` when it did not.
///
/// ```text
///         cli; xor ax,ax; mov ds,ax; mov ss,ax; mov sp,0x7c00; sti
/// again:  mov si,dap; mov ax,0x4300; int 0x13              ; extended write
///         mov al,'w'; jnc 1f; mov al,'e'
/// 1:      push dx; mov dx,0x3f8; out dx,al; pop dx
///         add word [dap+8],0x80; hlt; jmp again
/// dap:    db 16,0; dw 1,0x7c00,0; dq 0x80
/// ```
const WRITER: [u8; 56] = [
    0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xd0, 0xbc, 0x00, 0x7c, 0xfb, 0xbe, 0x28, 0x7c, 0xb8, 0x00,
    0x43, 0xcd, 0x13, 0xb0, 0x77, 0x73, 0x02, 0xb0, 0x65, 0x52, 0xba, 0xf8, 0x03, 0xee, 0x5a, 0x81,
    0x06, 0x30, 0x7c, 0x80, 0x00, 0xf4, 0xeb, 0xe3, 0x10, 0x00, 0x01, 0x00, 0x00, 0x7c, 0x00, 0x00,
    0x80, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
];
const WRITER_BYTES: u64 = 32 << 20;

/// Writes the disk into a folder, unless it is there.
pub(crate) fn disk(dir: &Path) -> BootDisks {
    let path = dir.join(FILE);
    if !path.exists() {
        write_disk(&path, &CODE, 1 << 20);
    }
    boot(path)
}

/// Writes the sparse disk of the writing guest into a folder, which QEMU reaches by another path.
pub(crate) fn writing_disk(dir: &Path, as_seen: &Path) -> BootDisks {
    write_disk(&dir.join(FILE), &WRITER, WRITER_BYTES);
    boot(as_seen.join(FILE))
}

fn write_disk(path: &Path, code: &[u8], size: u64) {
    let mut sector = vec![0; 512];
    sector[..code.len()].copy_from_slice(code);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, sector).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(size).unwrap();
}

fn boot(path: PathBuf) -> BootDisks {
    let file = DiskFile {
        path,
        format: DiskFormat::Raw,
    };
    BootDisks {
        disks: vec![Disk {
            file,
            backing: None,
            serial: None,
        }],
        kernel: None,
        root_key: None,
    }
}

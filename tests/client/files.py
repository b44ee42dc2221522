"""Files of every kind that WhatsApp takes: small, and well-formed as far as a receiver looks. Certificates for the tests, too.

Sends nothing.
"""

import base64
import pathlib
import struct
import subprocess
import zlib


def png(side=1, padding=0):
    """A PNG of side × side; `padding` bytes more in a chunk that viewers skip."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\x30\x90\x60" * side) * side)
    more = chunk(b"paDd", b"\0" * padding) if padding else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + more + chunk(b"IEND", b"")


JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQEASABIAAD/2wBDAP//////////////////////////////////////////////////////////////////////////////////////"
    "wAALCAABAAEBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAAA//EABQQAQAAAAAAAAAAAAAAAAAAAAD/2gAIAQEAAD8AR//Z"
)
WEBP = base64.b64decode("UklGRiQAAABXRUJQVlA4IBgAAAAwAQCdASoBAAEAAQAcJaQAA3AA/v3AgAA=")
MP4 = struct.pack(">I", 24) + b"ftypmp42" + b"\0\0\0\0" + b"mp42isom" + struct.pack(">I", 8) + b"mdat"
THREE_GP = struct.pack(">I", 24) + b"ftyp3gp4" + b"\0\0\0\0" + b"3gp43gp5" + struct.pack(">I", 8) + b"mdat"
M4A = struct.pack(">I", 24) + b"ftypM4A " + b"\0\0\0\0" + b"M4A mp42" + struct.pack(">I", 8) + b"mdat"
MP3 = b"ID3\x04\0\0\0\0\0\0" + b"\xff\xfb\x90\x00" + b"\0" * 413
AMR = b"#!AMR\n" + b"\x3c" + b"\0" * 31
AAC = b"\xff\xf1\x50\x80\x02\x1f\xfc\x21\x10\x05\x20"
PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"


def _ogg_crc(data):
    crc = 0
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = ((crc << 1) ^ 0x04C11DB7 if crc & 0x80000000 else crc << 1) & 0xFFFFFFFF
    return crc


def opus(channels=1):
    """An Ogg file whose first two pages say that it is Opus with so many channels."""

    def page(kind, number, data):
        head = struct.pack("<4sBBqIII", b"OggS", 0, kind, 0, 7, number, 0) + bytes([1, len(data)])
        crc = _ogg_crc(head + data)
        return head[:22] + struct.pack("<I", crc) + head[26:] + data

    first = b"OpusHead" + struct.pack("<BBHIhB", 1, channels, 312, 48000, 0, 0)
    second = b"OpusTags" + struct.pack("<I", 4) + b"test" + struct.pack("<I", 0)
    return page(2, 0, first) + page(0, 1, second) + page(4, 2, b"\xf8\xff\xfe")


def _openssl(folder, *words):
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True, timeout=60)


def certificates(folder):
    """Makes what the tests need with the program `openssl`, where `folder` has it not yet:

    ca.pem, an authority; hook.pem, key and certificate of the receiver; web.pem, key, certificate and chain of the webapps;
    strange.pem, a certificate with the key of another; expired.pem, one whose time is over.
    """
    folder = pathlib.Path(folder)
    if (folder / "hook.pem").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n")
    new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    _openssl(folder, *new, "-x509", "-keyout", "ca.key", "-out", "ca.pem", "-days", "30", "-subj", "/CN=Authority of a test")
    for name, days in (("hook", "30"), ("web", "30"), ("expired", "0")):
        _openssl(folder, *new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}.test")
        _openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                 "-days", days, "-extfile", "names", "-out", f"{name}.crt")
    text = {name: (folder / name).read_text() for name in
            ("ca.pem", "hook.key", "hook.crt", "web.key", "web.crt", "expired.key", "expired.crt")}
    (folder / "web.pem").write_text(text["web.key"] + text["web.crt"] + text["ca.pem"])
    (folder / "strange.pem").write_text(text["hook.key"] + text["web.crt"] + text["ca.pem"])
    (folder / "expired.pem").write_text(text["expired.key"] + text["expired.crt"] + text["ca.pem"])
    # The last one: whoever finds it has all.
    (folder / "hook.pem").write_text(text["hook.key"] + text["hook.crt"])

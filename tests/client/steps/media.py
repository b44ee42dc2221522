"""Files: up, down, in part, away; of every kind that is documented. What they are used for is in `messages.py`."""

import files
from expect import ABSENT, UUID, Call, Is, matches

WHY = "onprem 2.8"
# What messages need: name, type, bytes.
KEPT = [
    ("jpeg", "image/jpeg", files.JPEG),
    ("png", "image/png", files.png()),
    ("mp4", "video/mp4", files.MP4),
    ("threegp", "video/3gpp", files.THREE_GP),
    ("aac", "audio/aac", files.AAC),
    ("m4a", "audio/mp4", files.M4A),
    ("amr", "audio/amr", files.AMR),
    ("mp3", "audio/mpeg", files.MP3),
    ("opus", "audio/ogg; codecs=opus", files.opus()),
    ("stereo", "audio/ogg; codecs=opus", files.opus(2)),
    ("webp", "image/webp", files.WEBP),
    ("pdf", "application/pdf", files.PDF),
    ("txt", "text/plain", b"a plain text\n"),
    ("zip", "application/zip", b"PK\x05\x06" + b"\0" * 18),
    ("bigpng", "image/png", files.png(1, (5 << 20) + 1)),
]


def up(name, kind, send, **more):
    return Call(name, "POST /v1/media", WHY, who="user", send=send, kind=kind, **more)


def down(name, of, **more):
    return Call(name, "GET /v1/media/{id}", WHY, at={"id": of}, who="user", **more)


def exactly(data):
    return Is(f"{len(data)} bytes as they were sent", lambda got: got == data)


STEPS = []
for name, kind, data in KEPT:
    STEPS += [
        up(f"up {name}", kind, data, status=(200, 201), body={"media[0].id": UUID, "media[1]": ABSENT}, save={"media_" + name: "media[0].id"}),
        down(f"down {name}", f"${{media_{name}}}", raw=exactly(data),
             head={"Content-Type": matches("^" + kind.split(";")[0]), "Content-Length": str(len(data))}),
    ]
PDF = files.PDF
STEPS += [
    up("with a slash", "application/pdf", PDF, status=(200, 201), slash=True, save={"media_gone": "media[0].id"}),
    down("with a slash", "${media_gone}", slash=True, raw=exactly(PDF)),
    down("the first four bytes", "${media_gone}", headers={"Range": "bytes=0-3"}, status=206, raw=exactly(PDF[:4]),
         head={"Content-Range": f"bytes 0-3/{len(PDF)}", "Content-Length": "4"}),
    down("from the fifth", "${media_gone}", headers={"Range": "bytes=4-"}, status=206, raw=exactly(PDF[4:])),
    down("the last three", "${media_gone}", headers={"Range": "bytes=-3"}, status=206, raw=exactly(PDF[-3:])),
    down("beyond the end", "${media_gone}", headers={"Range": "bytes=9999-"}, status=416, head={"Content-Range": f"bytes */{len(PDF)}"}),
    up("nothing", "application/pdf", b"", code=(1008, 1009)),
    up("a type that is none", "pdf", PDF, code=1009),
    down("a file that is not there", "00000000-0000-4000-8000-000000000000", code=1006),
    down("an id that is none", "no-such-id", code=1006),
    Call("it is deleted", "DELETE /v1/media/{id}", WHY, at={"id": "${media_gone}"}, who="user"),
    down("it is gone", "${media_gone}", code=1006),
    Call("it is deleted once more", "DELETE /v1/media/{id}", WHY, at={"id": "${media_gone}"}, who="user", code=1006),
    Call("a file that never was is deleted", "DELETE /v1/media/{id}", WHY, at={"id": "00000000-0000-4000-8000-000000000000"}, who="user",
         slash=True, code=1006),
]

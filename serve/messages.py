"""What the service and its processes that decode say to each other, through pipes: a head of fixed size, then bytes."""

import struct

# Bytes of a picture, and for which model it is: an index into `recipes`.
REQUEST = struct.Struct("<QI")
# Whether it is a picture; its width and height; bytes of the note, or of the reason, and of the square.
REPLY = struct.Struct("<?IIIQ")

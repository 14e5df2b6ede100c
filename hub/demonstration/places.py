"""An invented county. Royal Mail uses no postcode that starts with ZZ; telephone numbers are Ofcom's for drama."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hub:
    id: str
    name: str
    town: str
    ods: str


@dataclass(frozen=True, slots=True)
class Practice:
    id: str
    name: str
    town: str
    ods: str
    district: str
    hub: Hub


COUNTY = "Westlevels"

HUBS = (
    Hub("hub-yeo", "Yeo Valley Hub", "Castle Yeo", "ZZH01"),
    Hub("hub-levels", "Levels Hub", "Athelbridge", "ZZH02"),
    Hub("hub-quantock", "Quantock Hub", "Stogumber Cross", "ZZH03"),
)

_PRACTICES = (
    ("Bramley Orchard Surgery", "Castle Yeo", 0),
    ("Withy Lane Practice", "Athelbridge", 1),
    ("Seven Wells Medical Centre", "Stogumber Cross", 2),
    ("Ham Stone Health Centre", "Martock Green", 0),
    ("King's Sedgemoor Surgery", "Othery Drove", 1),
    ("Red Deer Practice", "Exebridge Water", 2),
    ("Cider Mill Surgery", "Ilbrook", 0),
    ("High Ridge Medical Centre", "Highbridge St Mary", 1),
    ("Watchtower Practice", "Watchhaven", 2),
    ("Penselwood Practice", "Wincanley", 0),
    ("Glass Isle Surgery", "Glastonbere", 1),
    ("Brendon View Surgery", "Wivelscombe Hill", 2),
    ("Parrett Bridge Practice", "Crewkerton", 0),
    ("Polden Hills Surgery", "Street End", 1),
    ("Cothelstone Practice", "Bishop's Lyde", 2),
    ("Five Arches Surgery", "Chardmouth", 0),
    ("Burnham Sands Practice", "Berrow-on-Sea", 1),
)

PRACTICES = tuple(
    Practice(f"practice-{number:02d}", name, town, f"ZZP{number:02d}", f"ZZ{10 + number}", HUBS[hub])
    for number, (name, town, hub) in enumerate(_PRACTICES, 1)
)

# id, name, ODS code, kind: those who work with the hubs without being one
PARTNERS = (
    ("trust-castle-yeo", "Castle Yeo District Hospital", "ZZT01", "acute trust"),
    ("council-westlevels", "Westlevels Council Adult Social Care", "ZZC01", "local authority"),
    ("charity-village-agents", "Westlevels Village Agents", "ZZV01", "voluntary organisation"),
    ("office-westlevels", "Westlevels Integrated Care Office", "ZZB01", "integrated care office"),
)

# fmt: off
HOUSES = ("Rose Cottage", "The Old Forge", "Orchard View", "Bay Tree House", "Meadow Bungalow")
STREETS = (
    "Church Lane", "North Street", "Drove Road", "Silver Street", "Cheap Street", "Withy Close", "Manor Gardens",
    "Pound Lane", "Station Road", "Orchard Rise", "Mill Lane", "The Batch", "Chapel Row", "Coronation Avenue",
    "Quantock View", "Sedgemoor Way", "Priory Close", "Back Lane", "Cow Cross", "Levels Road",
)

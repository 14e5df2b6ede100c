"""What the synthetic people say, in plain words, as if written with a coordinator at a kitchen table."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Condition:
    """A long-term condition and what people with it want, do, and watch for. SNOMED CT findings, unverified."""

    key: str
    code: str
    display: str
    share: int
    """How often it turns up among people with several conditions, per cent (ours; no source)."""
    goals: tuple[str, ...]
    actions: tuple[str, ...]
    if_worse: tuple[str, ...]


# fmt: off
CONDITIONS = (
    Condition(
        "hypertension", "38341003", "Hypertensive disorder", 62,
        (
            "Get my top number under 140 without feeling giddy when I stand up.",
            "Stop worrying every time I see the cuff. I want to know what the numbers mean.",
            "Cut down on the salt. My wife says I put it on before I taste anything, and she is right.",
        ),
        ("Take blood pressure morning and evening, sitting down, for a week before each review.",
         "Walk to the post box and back every day that it is not icy."),
        ("If the top number is over 170 twice, ten minutes apart, ring the hub. If there is chest pain or my face or "
         "speech goes wrong, ring 999.",),
    ),
    Condition(
        "diabetes", "44054006", "Type 2 diabetes mellitus", 48,
        (
            "No more hypos in the night. They frighten my husband more than they frighten me.",
            "Keep my feet. Dad lost his and I am not having that.",
            "Eat the same meal as the grandchildren on Sundays and not feel guilty after.",
            "Get my sugars steady enough to drive to my sister's in Minehead again.",
        ),
        ("Test before breakfast and before tea, and write down anything under 4.",
         "Check feet every Sunday with the mirror; ring the nurse about any mark that is still there on Wednesday."),
        ("If my sugar is under 4: five jelly babies, test again in 15 minutes, then toast. If I cannot swallow or make "
         "no sense, ring 999. Do not leave me on my own.",),
    ),
    Condition(
        "depression", "35489007", "Depressive disorder", 30,
        (
            "Get up and dressed before nine, even on the days I see nobody.",
            "Go back to the choir. I have not sung since Tony's funeral.",
            "Have one thing in the diary each week that is not a hospital appointment.",
        ),
        ("Ring Sue on Tuesdays. She rings me on Fridays.",
         "Go to Talking Café at the library, first visit with the village agent."),
        ("If I stop answering the telephone, please come round. If I say I would be better off out of the way, ring "
         "111 option 2 with me, or 999, and do not leave.",),
    ),
    Condition(
        "copd", "13645005", "Chronic obstructive lung disease", 26,
        (
            "Walk to the allotment and back without stopping at the bench.",
            "Stay out of hospital this winter. Three times last year was three too many.",
            "Sleep in my own bed instead of the armchair.",
            "Get through a whole bath without gasping.",
        ),
        ("Check oxygen morning and afternoon after five minutes' rest.",
         "Do the breathing exercises from the physio, twice a day.",
         "Keep the rescue pack in the top drawer and tell the hub the day I start it."),
        ("If my phlegm changes colour or I cannot finish a sentence, start the rescue pack and ring the hub the same "
         "day. If my oxygen is under 88 or my lips are blue, ring 999.",),
    ),
    Condition(
        "heart-failure", "84114007", "Heart failure", 22,
        (
            "Get my shoes on again without the swelling.",
            "Climb my own stairs once a day and sleep flat with two pillows.",
            "Be well enough to give Ellie away in June.",
            "Keep my weight where the heart nurse likes it, without living on lettuce.",
        ),
        ("Weigh every morning after the toilet and before breakfast.",
         "Keep to the fluid jug: when it is empty, that is the day's lot."),
        ("If I put on more than 2 kilos in three days, or need another pillow, ring the hub before noon. If I cannot "
         "get my breath sitting still, ring 999.",),
    ),
    Condition(
        "asthma", "195967001", "Asthma", 14,
        (
            "Use the blue inhaler less. I would like a week when I forget where it is.",
            "Get back to skittles on a Thursday without coughing through it.",
        ),
        ("Brown inhaler every morning with my teeth.", "Peak flow when I feel tight, and write it down."),
        ("If the blue inhaler is not holding for four hours, ring the hub. If it does not help at all, ring 999.",),
    ),
    Condition(
        "atrial-fibrillation", "49436004", "Atrial fibrillation", 16,
        ("Not have a stroke like Mum did. I will take the tablets if somebody explains them.",),
        ("Blood thinner with breakfast, never doubled if missed.",),
        ("If my heart races for more than half an hour, ring the hub. Face, arms, speech: ring 999.",),
    ),
    Condition(
        "kidney-disease", "709044004", "Chronic kidney disease", 18,
        ("Know which of my tablets are hard on the kidneys, on one sheet, in big print.",),
        ("Blood test at the practice every three months.",),
        ("If I have sickness or the runs for a day, ring the pharmacist about which tablets to stop.",),
    ),
    Condition(
        "osteoarthritis", "396275006", "Osteoarthritis", 28,
        (
            "Get down on the floor with the little ones, and up again.",
            "Carry my own shopping in from the car.",
            "Knit for an hour without my hands seizing up.",
        ),
        ("Chair exercises with the radio on, ten minutes.", "Ask about the knee group at the leisure centre."),
        ("If a joint goes hot and red, or I cannot stand on it, ring the practice that day.",),
    ),
    Condition(
        "coronary-disease", "414545008", "Ischemic heart disease", 17,
        ("Dig the potato bed without the pain coming on.",),
        ("Keep the spray in my pocket, not on the dresser.",),
        ("Chest pain: spray, sit, five minutes. Still there: ring 999.",),
    ),
    Condition(
        "stroke", "230690007", "Cerebrovascular accident", 10,
        ("Sign my own name again so that they can read it.", "Order my own pint and be understood."),
        ("Hand putty while the news is on.",),
        ("Face, arms, speech: ring 999 at once, even if it passes off.",),
    ),
    Condition(
        "osteoporosis", "64859006", "Osteoporosis", 9,
        ("Not break anything else. I want to walk on the sand without being held.",),
        ("Weekly tablet on a Monday, standing up after.",),
        ("If I fall and cannot get up, press the pendant. Do not pull me up by the arms.",),
    ),
    Condition(
        "anxiety", "197480006", "Anxiety disorder", 12,
        ("Sit in a waiting room without wanting to bolt.",),
        ("Breathing app before appointments.",),
        ("If I have not left the house for a week, ring and suggest something small.",),
    ),
    Condition(
        "thyroid", "40930008", "Hypothyroidism", 9,
        ("Have the energy to walk the dog twice, like I used to.",),
        ("Tablet on waking, half an hour before tea.",),
        ("If I am cold, slow and sleepy for a fortnight, ask for a blood test.",),
    ),
)
# fmt: on

BY_KEY = {condition.key: condition for condition in CONDITIONS}

WHAT_MATTERS = (
    "Staying in my own house with my own front door. I have been here since 1974 and I know where everything is.",
    "Seeing the grandchildren on Sundays. Everything else I can put up with.",
    "My dog, Biscuit. Whatever happens to me, somebody needs to know what happens to her.",
    "Not being a nuisance to my daughter. She has enough on her plate with work and the boys.",
    "My garden. If I can get out there for an hour I am a different person.",
    "Being told the truth, in plain words, and not being talked over as if I were not in the room.",
    "Chapel on Sunday morning and the tea after. That is where my friends are.",
    "Getting back to the skittles team, even if it is only to keep the score.",
    "Looking after Pauline. She had her stroke first, so I have to keep going.",
    "Keeping my licence. Out here, no car means no life.",
    "Sleeping through. I could face anything if I had slept.",
    "I want fewer appointments. Last month I was at the hospital five times for five different bits of me.",
    "Watching the rugby with my brother without having to explain what is in my bag.",
    "My independence. I will use the walking frame, but I will not be hurried.",
    "Bees. I have four hives and I mean to die with four hives.",
    "Not going into a home. Mum did, and I promised myself.",
    "Being able to read. If my eyes go I want talking books sorted out before, not after.",
    "Keeping my job at the garden centre. Three days is fine. They are good about it if they know in time.",
    "Having my hair done on a Friday. It sounds daft but it is when I feel like me.",
    "Being there for my son. He is forty but he still needs his mum to ring the council for him.",
    "Peace and quiet, my records, and nobody wearing a lanyard before ten o'clock.",
)

# Index of the origin in names.ORIGINS -> what people from there also say.
WHAT_MATTERS_BY_ORIGIN = {
    1: (
        "Speaking Polish with someone now and then. Since Janek died the days are very quiet.",
        "Mass at nine on Sundays, and making pierogi with my granddaughter after.",
    ),
    2: (
        "Cooking for the whole family when they come. I want to stand in my own kitchen for it this year.",
        "Going home once more to see my sister. The doctor says maybe, so we are planning for maybe.",
    ),
    3: (
        "Singing at church with my hat on. They keep my seat by the heater.",
        "My domino club on a Friday, and nobody telling me to go to bed early.",
    ),
    4: ("My vegetables and my vines. I planted them when we came here in 1971.",),
    5: ("Having the family round one big table at New Year. I still want to do the fish myself.",),
    6: ("Talking to my brother every evening. The call does me more good than the tablets.",),
}
ABOUT_ME_BY_ORIGIN = {
    1: ("Speaks English and Polish; likes letters in large print.",),
    2: ("Vegetarian, no alcohol. My son interprets when it is complicated, but talk to me first.",),
    3: ("Came in 1962 to drive the buses. Always on time and expects the same.",),
    5: ("Speaks Cantonese at home. Please write numbers down.",),
    6: ("Needs an interpreter for anything longer than hello. Tea is always ready.",),
}

OTHER_GOALS = (
    "Get to the WI meeting on the third Thursday, by bus, on my own.",
    "Learn to do the video call so that I can see the baby in Calgary.",
    "Have the rail put in by the back step before the frosts.",
    "Lose a stone by Easter, slowly, so that it stays off.",
    "Stop smoking. I have done it twice, so I know that I can.",
    "Understand my tablets. There are eleven of them and nobody has ever gone through them with me.",
    "Walk round the lake at Chard with Jim, even if we sit down twice.",
    "Not fall again. I have lost my nerve and I would like it back.",
    "Find somebody who can sit with Alan so that I can have my hair cut.",
    "Get the damp in the bedroom seen to.",
    "Tell my family what I want at the end, while I can still laugh about it.",
    "Swim at the hydro pool on Wednesdays.",
)

ABOUT_ME = (
    "Retired signalman. Hard of hearing on the left, so sit on my right. Likes a joke.",
    "Used to run the school kitchen. Prefers to be asked, not told. Glasses are always on my head.",
    "Lives with wife and two cats. Please ring before coming: the lane floods.",
    "Worked on the farm all my life. Up at five, asleep by nine, so no evening calls.",
    "Was a bus driver for thirty years. Does not like needles; look away and keep talking.",
    "Lives alone since 2019. The key is with Jean next door. Takes time to get to the door.",
    "Taught maths. Wants to see the numbers and the chart, not a summary.",
    "Cares for a son with learning disabilities, who must be told who is coming.",
    "Chatty, will say that everything is fine. Ask twice.",
    "Reads lips. Face me when you talk, and write down names of medicines.",
    "Was a nurse, so no baby talk please. Worries more than lets on.",
    "Plays the cornet in the town band. Practice is Thursday.",
    "Mornings are bad because of stiffness. After eleven is better for visits.",
)

TITLES = ("My plan", "Living well at home", "My plan for this year", "Keeping well and staying home")

LIMIT_REASONS = {
    "spo2": "Usual oxygen at rest is lower than most people's; agreed in respiratory clinic.",
    "weight": "Dry weight agreed after the last admission.",
    "blood-pressure": "Falls when systolic is under 110; agreed to run a little higher.",
    "glucose": "Two night-time hypos this autumn; agreed to act earlier.",
    "pulse": "Runs fast in atrial fibrillation; rate control reviewed.",
}

# description, days until due from which to draw (negative: overdue), priority, who owns it
TASKS = (
    ("Ring within 48 hours of leaving hospital", (-1, 2), "urgent", "coordinator"),
    ("Review the plan together", (-10, 20), "routine", "coordinator"),
    ("PHQ-9 is due", (-5, 10), "routine", "coach"),
    ("Annual foot check is due", (-20, 20), "routine", "nurse"),
    ("Go through the tablets after discharge", (-2, 4), "urgent", "pharmacist"),
    ("Home visit: rails and back step", (1, 12), "routine", "occupational-therapist"),
    ("Ring about missed readings", (-1, 1), "urgent", "coordinator"),
    ("Find a lift to the lunch club on Wednesdays", (-3, 9), "routine", "village-agent"),
    ("Coaching call: walking goal", (-2, 6), "routine", "coach"),
    ("Answer the daughter's question about respite", (-1, 3), "routine", "coordinator"),
    ("Check that the new cuff fits", (0, 5), "routine", "nurse"),
    ("Social care assessment: chase the date", (-6, 6), "routine", "social-worker"),
)

"""Names as people use them: short forms, and words that stand where a name should. In plain form, see records.plain."""

from typing import Final

_GROUPS: Final = """
alexander alex sasha al; alexandra alex sandra; andrew andy drew; anthony tony; barbara barb babs;
benjamin ben; catherine katherine kathryn kate katie kathy cathy; charles charlie chuck;
christina christine chris tina; christopher chris; daniel dan danny; david dave; cassandra cass cassie;
cornelius conny; danielle dani ellie; deborah debra deb debbie; donald don; dorothy dot dottie;
edward ed eddie ted; elizabeth liz beth betty eliza lisa; eugene gene; faith fay faye; frances fran;
frederick fred freddie; gerald jerry gerry; gregory greg; harold harry hal; henry hank harry; jacob jake;
jacqueline jackie; james jim jimmy jamie; janet jan; jeffrey jeff; jennifer jen jenny; jessica jess jessie;
john jack johnny; jonathan jon; joseph joe joey; joshua josh; judith judy; kenneth ken kenny; kimberly kim;
lawrence larry; leonard leo len; margaret maggie meg peggy; matthew matt; michael mike mick mickey; nancy nan;
nathaniel nathan nate; nicholas nick; pamela pam; patricia pat patty tricia; patrick pat; peter pete;
philip phil; rebecca becky; richard rick rich dick ricky; robert bob rob bobby robbie; ronald ron ronnie;
samantha sam; samuel sam sammy; sandra sandy; stephanie steph; stephen steven steve; susan sue susie;
theodore ted theo; theresa terry; thomas tom tommy; timothy tim; victoria vicky; vincent vince; walter walt;
william bill will billy liam; zachary zach; anders ante; birgitta gittan; erik eric jerker;
elisabet elisabeth lisbeth bettan; fredrik fredde; gunilla nilla; gustav gustaf gosta; johan johannes janne;
jan janne; karl carl calle kalle; katarina karin kajsa; kristina stina kicki; lars lasse; magnus mange;
margareta greta maggan; maria maja mia; mikael michael micke; nils nisse; per pelle; sven svenne; sara sarah;
sofia sofie; stefan steffe; tomas thomas tompa; ulrika ulla; viktor victor vicke
"""

ROOTS: Final[dict[str, str]] = {}
"""Short form (or full name) -> the full name that it is taken for."""
for _group in _GROUPS.split(";"):
    _full, *_short = _group.split()
    for _each in (_full, *_short):
        ROOTS.setdefault(_each, _full)

_NOBODY: Final = """
adult aunt baby barn boende boy boyfriend brother brotherinlaw child children cousin dau daughter dotter
efternamn father female first firstname fornamn friend gent gentleman gentlemen girl girlfriend grandchild
granddaughter grandfather grandma grandmother grandpa grandson guest householder husband hushall infant inmate
kid kund kunden kvinna lady last lastname male man minor mom mother mr mrs ms name nephew newborn niece
occupant of our parent partner person resident roommate sibling sister son spouse stepdaughter stepson student
surname teen teenager the toddler twin uncle wife woman young youth
"""
NOBODY: Final = frozenset(_NOBODY.split())
"""Words that only say what somebody is: of forms that were filled in for somebody else."""

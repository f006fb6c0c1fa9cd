//! Stock: how sales are reported, which routes need a unit, which sale a route sells from.

use tidegate_filters::{
    FilterSettings,
    route::{Needs, RouteFilters},
    seats::ledger::{HOLD_S_MAX, UNITS_MAX},
    units::Span,
};

use super::{Checker, rooms::hours};
use crate::policy::{keep::SaleSettings, shop::Silence};

/// Headers that mean something to HTTP itself.
const NOT_FOR_SALES: &[&str] =
    &["content-length", "content-type", "connection", "transfer-encoding", "set-cookie", "location", "date", "server", "host"];
/// Most units one request can sell.
const LOT_MAX: u64 = 100;

impl Checker<'_> {
    pub(super) fn reports(&mut self) {
        let policy = self.policy;
        let Some(reports) = &policy.shop.reports_sales_by else { return };
        let at = |key: &str| format!("shop.reports_sales_by.{key}");
        let by_route = reports.route.is_some() || reports.status.is_some() || reports.location.is_some();
        match (&reports.header, by_route) {
            (None, false) => {
                let instead = "write `{ header: Tidegate-Sold }`, or `{ route: checkout, status: 302, location: /thanks }`";
                self.error("shop.reports_sales_by", "nothing says how", instead);
            }
            (Some(_), true) => {
                self.error("shop.reports_sales_by", "two ways at once: a unit would count twice", "keep `header`, or the rule");
            }
            (None, true) if reports.silence != Silence::default() => {
                let what = "a rule about status and place says of every answer what it means: there is no silence";
                self.error(at("silence"), what, "remove it, or report by `header`");
            }
            (Some(header), false) => {
                let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
                let reserved = NOT_FOR_SALES.contains(&header.to_ascii_lowercase().as_str());
                if header.is_empty() || !header.chars().all(token) || reserved {
                    let what = format!("`{header}` cannot carry sales");
                    self.error(at("header"), what, "write a header of your own, such as Tidegate-Sold");
                }
            }
            (None, true) => {
                let routes: Vec<&str> = policy.routes.iter().map(|r| r.name.as_str()).collect();
                match &reports.route {
                    Some(route) => drop(self.known(at("route"), "route", route, &routes)),
                    None => self.error("shop.reports_sales_by", "no `route` is named", "write `route: checkout`"),
                }
                match reports.status {
                    Some(status) => self.within(at("status"), status.into(), 200, 499, ""),
                    None => {
                        let what = "no `status` tells a sale from the rest";
                        self.error("shop.reports_sales_by", what, "write `status: 302`");
                    }
                }
                if reports.location.as_ref().is_some_and(|l| !l.starts_with('/')) {
                    self.error(at("location"), "it is compared with a path", "write the beginning of the path, such as /thanks");
                }
            }
        }
    }

    pub(super) fn needs(&mut self) {
        let policy = self.policy;
        for (i, route) in policy.routes.iter().enumerate() {
            let Some(needs) = &route.needs else { continue };
            self.hold(i, needs);
            if route.filters == RouteFilters::None {
                let what = "its requests are asked nothing, so nobody has a pass that could hold a unit";
                self.error(format!("routes[{i}].needs"), what, "remove `filters: none`");
            }
        }
        for (i, sale) in policy.sales.iter().enumerate() {
            self.stock(i, sale);
        }
    }

    fn hold(&mut self, i: usize, needs: &Needs) {
        let policy = self.policy;
        let at = |key: &str| format!("routes[{i}].needs.{key}");
        let sales: Vec<&str> = policy.sales.iter().map(|s| s.name.as_str()).collect();
        if !self.known(at("hold"), "sale", &needs.hold, &sales) {
            return;
        }
        let Some(sale) = policy.sales.iter().find(|s| s.name == needs.hold) else { return };
        if sale.stock.is_none() {
            let what = format!("sale `{}` has no `stock` to hold a unit of", sale.name);
            self.error(at("hold"), what, "write `stock: 500` in the sale, or remove `needs`");
        }
        if let Some(again) = policy.drawn_again(&sale.name).filter(|_| sale.cancelled.is_some()) {
            let what =
                format!("sale `{}` is called off, so nobody can buy here, and `{}` is drawn instead", sale.name, again.name);
            self.warning(at("hold"), what, format!("write `hold: {}`", again.name));
        }
        if !self.leads_through(&sale.room, &policy.routes[i].name) {
            let what =
                format!("nobody has a pass here: no filter sends `{}` through room `{}`", policy.routes[i].name, sale.room);
            self.error(at("hold"), what, format!("add the route to `waiting_room: {{ room: {} }}`", sale.room));
        }
        if needs.take_on.is_empty() {
            self.error(at("take_on"), "no method takes a unit, so nobody can buy", "write `take_on: [POST]`");
        }
        for (k, method) in needs.take_on.iter().enumerate() {
            if !Needs::asks(method) {
                let what = format!("a `{method}` never takes anything: browsers send it on their own");
                self.error(format!("{}[{k}]", at("take_on")), what, "write `take_on: [POST]`");
            } else if method.is_empty() || !method.chars().all(|c| c.is_ascii_uppercase() || c == '-' || c == '_') {
                self.error(format!("{}[{k}]", at("take_on")), format!("`{method}` is not a method"), "write POST, PUT, …");
            }
        }
        self.within(at("units"), needs.units.into(), 1, LOT_MAX, " units");
        if sale.per_visitor_max.is_some_and(|max| max < needs.units) {
            let what = format!("one request takes {} units, more than a visitor may buy", needs.units);
            self.error(at("units"), what, "write at most `per_visitor_max` of the sale");
        }
        self.some_time(at("expires"), needs.expires);
        let longest = Span::secs(HOLD_S_MAX.into());
        if needs.expires > longest {
            let what = format!("a unit would be kept for {} for somebody who left", needs.expires);
            self.error(at("expires"), what, format!("write at most {longest}"));
        }
    }

    fn stock(&mut self, i: usize, sale: &SaleSettings) {
        // Nothing of it is sold, and it stays as it was promised.
        if sale.cancelled.is_some() {
            return;
        }
        let policy = self.policy;
        let at = |key: &str| format!("sales[{i}].{key}");
        let held = policy.holds(sale).next().is_some();
        if sale.per_visitor_max == Some(0) {
            self.error(at("per_visitor_max"), "nobody may buy anything", "write at least 1, or remove it");
        }
        if sale.per_visitor_max.is_some() && !held {
            let what = "no route takes a unit of this sale, so nothing counts what a visitor buys";
            let instead = format!("add `needs: {{ hold: {} }}` to the route that sells", sale.name);
            self.error(at("per_visitor_max"), what, instead);
        }
        if let Some(reserve) = sale.reserve.filter(|r| r.ms() > 0) {
            self.reserve(i, sale, reserve, held);
        }
        let Some(stock) = sale.stock else { return };
        if stock > UNITS_MAX {
            self.within(at("stock"), stock, 1, UNITS_MAX, " units");
        }
        let lot = policy.lot(sale);
        if stock % u64::from(lot.max(1)) != 0 {
            let what = format!("a request takes {lot} units at least, so the last of {stock} cannot be sold");
            self.warning(at("stock"), what, format!("write a multiple of {lot}"));
        }
        if !held {
            let what = "nothing keeps the shop from selling more: requests that sell go to it without a unit";
            let instead = format!("add `needs: {{ hold: {} }}` to the route that sells", sale.name);
            self.warning(at("stock"), what, instead);
        } else if policy.shop.reports_sales_by.is_none() {
            let what = "the shop's answers do not tell what was sold: every unit stays uncertain until the admin API is told";
            self.warning(at("stock"), what, "add `reports_sales_by: { header: Tidegate-Sold }` to `shop`");
        } else if policy.shop.reports_sales_by.as_ref().is_some_and(|r| r.silence == Silence::NotSold) {
            let what = "an answer that sold and lost its header on the way gives its unit back, to be sold again";
            let instead = "let the shop answer `Tidegate-Sold: 0` where nothing was sold, and remove `silence: not_sold`";
            self.warning("shop.reports_sales_by.silence".to_owned(), what, instead);
        }
        let limited = |s: &&SaleSettings| s.cancelled.is_none() && s.stock.is_some() && s.room != sale.room && overlap(s, sale);
        for other in policy.sales[..i].iter().filter(limited) {
            let both = |r: &&str| self.leads_through(&sale.room, r) && self.leads_through(&other.room, r);
            let Some(route) = policy.routes.iter().map(|r| r.name.as_str()).find(both) else { continue };
            let what = format!("route `{route}` sells from sale `{}` as well: a sale there could be of either", other.name);
            self.error(at("stock"), what, "give each its own route, or move one in time");
        }
    }

    fn reserve(&mut self, i: usize, sale: &SaleSettings, reserve: Span, held: bool) {
        let at = format!("sales[{i}].reserve");
        if sale.stock.is_none() || !held {
            let what = "nothing can be set aside: this sale has no `stock`, or no route takes its units";
            let instead = format!("write `stock`, and `needs: {{ hold: {} }}` at the route that sells", sale.name);
            self.error(at, what, instead);
        } else if let Some(room) = self.policy.rooms.iter().find(|r| r.name == sale.room)
            && reserve > room.seats.pass_age_max
        {
            let what = format!("{reserve} is longer than a pass lives ({})", room.seats.pass_age_max);
            self.error(at, what, "write at most `pass_age_max` of the room");
        } else if reserve.ms() < 1_000 {
            self.error(at, format!("{reserve} is too short for anybody"), "write at least 1s, or 0s for none");
        }
    }

    /// A filter, not in shadow, sends the route through the room.
    fn leads_through(&self, room: &str, route: &str) -> bool {
        self.policy.filters.iter().any(|f| match f {
            FilterSettings::WaitingRoom(w) => {
                w.room == room && !w.shadow && (w.routes.is_empty() || w.routes.iter().any(|r| r == route))
            }
            _ => false,
        })
    }
}

fn overlap(a: &SaleSettings, b: &SaleSettings) -> bool {
    hours(a).0 < hours(b).1 && hours(b).0 < hours(a).1
}
